// Package topic knows the Kafka topics: their names, how they must be
// configured, how they are made and checked.
package topic

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditrail/auditrail/pkg/audit"
)

// DeadLetter takes every record that breaks a rule of the contract: the
// original bytes as value, reason and source position in headers.
const DeadLetter = "audit.dead-letter.v1"

// Settings is the table of the subscriptions' settings, keyed by customerUuid.
const Settings = "audit.settings.v1"

// APILimits is the table of the limits that were set for subscriptions' calls,
// keyed by customerUuid.
const APILimits = "audit.api-limits.v1"

// Reports is the table of the report jobs: see package report.
const Reports = "audit.reports.v1"

// ReportIDs gives reports their numbers: the offset of a record, plus one.
const ReportIDs = "audit.report-ids.v1"

// AuditModule is the code of the product itself, with its names. Its own audit
// events travel on Audit: searches, exports, changes of settings.
const (
	AuditModule      = "AUDIT"
	AuditModuleName  = "Audit Log"
	AuditApplication = "audit-log"
)

// Audit is the event topic of AuditModule. It is always there, whatever modules
// are registered.
var Audit = audit.Topic(AuditModule)

// tables are the topics that hold state: the newest value of each key stays
// for ever. Package ktable reads them.
//
// ReportIDs is none, but a topic that deletes by age could begin at 0 again.
var tables = []string{Settings, APILimits, Reports, ReportIDs}

// EventsPattern matches every event topic, as a regular expression.
const EventsPattern = `^audit\.events\.[a-z][a-z0-9]{0,31}\.v1$`

// APICallsPattern matches audit.APICallsTopic alone, as a regular expression.
const APICallsPattern = `^audit\.api-calls\.v1$`

const (
	// MaxMessageBytes is the largest batch an event topic takes. It is well
	// above audit.MaxRecordBytes, so that an oversized record arrives, is
	// dead-lettered and seen, instead of failing in its producer unseen.
	MaxMessageBytes = 1 << 20
	// MaxDeadLetterBytes is the largest batch of dead letters: it leaves room
	// for their headers.
	MaxDeadLetterBytes = 2 * MaxMessageBytes
)

// Config is the module registry. Its tags are flags; see auditrail --help.
type Config struct {
	Modules     []string      `help:"Codes of the modules that may emit: each gets the topic audit.events.<code>.v1. AUDIT, the product itself, always has one." default:"ADMIN,AM,API,BILL,CERT,CI,CM,CS,EDR,FIM,MDM,PC,PM,RM,SCA,SSO,TAG,TM,UM,VM,VMDR,WAS" sep:","`
	Partitions  int32         `help:"Partitions of a new topic of events or API calls. Existing topics keep theirs." default:"2"`
	Replication int16         `help:"Replicas of a new topic; -1 takes the broker's default." default:"-1"`
	Retention   time.Duration `name:"topic-retention" help:"How long Kafka keeps records. Ingest must never be away for longer." default:"168h"`
}

var moduleCode = regexp.MustCompile(`^[A-Z][A-Z0-9]{0,31}$`)

// Validate names the first wrong value.
func (c Config) Validate() error {
	for _, m := range c.Modules {
		if !moduleCode.MatchString(m) {
			return fmt.Errorf("--modules: %q is not a module code: 1 to 32 upper-case letters and digits, a letter first", m)
		}
	}
	if c.Partitions < 1 {
		return fmt.Errorf("--partitions must be at least 1, not %d", c.Partitions)
	}
	if c.Retention <= 0 {
		return fmt.Errorf("--topic-retention must be above 0, not %s", c.Retention)
	}
	return nil
}

// Spec is a topic as it must be.
type Spec struct {
	Name        string
	Partitions  int32
	Replication int16
	Config      map[string]string
}

// Specs lists the topics: one a module, AuditModule included, the API calls, the
// dead letters, the announcements and the tables.
func (c Config) Specs() []Spec {
	base := func(name string, maxBytes int) Spec {
		return Spec{Name: name, Partitions: c.Partitions, Replication: c.Replication, Config: map[string]string{
			"cleanup.policy": "delete",
			// The broker's clock is the one that ages and watermarks rely on.
			"message.timestamp.type": "LogAppendTime",
			"max.message.bytes":      strconv.Itoa(maxBytes),
			"retention.ms":           strconv.FormatInt(c.Retention.Milliseconds(), 10),
		}}
	}
	modules := c.Modules
	if !slices.Contains(modules, AuditModule) {
		modules = append(slices.Clone(modules), AuditModule)
	}
	specs := make([]Spec, 0, len(modules)+3+len(tables))
	for _, m := range modules {
		specs = append(specs, base(audit.Topic(m), MaxMessageBytes))
	}
	dead := base(DeadLetter, MaxDeadLetterBytes)
	dead.Partitions = 1
	ingested := base(Ingested, MaxMessageBytes)
	ingested.Partitions = 1
	ingested.Config["retention.ms"] = strconv.FormatInt(ingestedRetention.Milliseconds(), 10)
	specs = append(specs, base(audit.APICallsTopic, MaxMessageBytes), dead, ingested)
	for _, name := range tables {
		specs = append(specs, table(name, c.Replication))
	}
	return specs
}

const (
	// tableHistory is how long values that were replaced can still be looked
	// at, at least.
	tableHistory = 24 * time.Hour
	// tableDeletions is how long a deletion is told. A reader cut off for
	// longer may miss it until its process starts again.
	tableDeletions = 30 * 24 * time.Hour
)

// table is a topic that holds state. One partition, so that its order is one.
func table(name string, replication int16) Spec {
	return Spec{Name: name, Partitions: 1, Replication: replication, Config: map[string]string{
		"cleanup.policy": "compact",
		// Since when a value stands is told by the broker's clock.
		"message.timestamp.type": "LogAppendTime",
		"min.compaction.lag.ms":  strconv.FormatInt(tableHistory.Milliseconds(), 10),
		"delete.retention.ms":    strconv.FormatInt(tableDeletions.Milliseconds(), 10),
		// The embedded broker applies these to compacted topics, too.
		"retention.ms":    "-1",
		"retention.bytes": "-1",
	}}
}

// IDs asks the brokers for the topics that exist, with their ids. It never
// answers from a cache: a topic made anew has a new id.
func IDs(ctx context.Context, cl *kgo.Client) (map[string]uuid.UUID, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = nil // all
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	ids := make(map[string]uuid.UUID, len(resp.Topics))
	for _, t := range resp.Topics {
		if t.Topic != nil && t.ErrorCode == 0 {
			ids[*t.Topic] = uuid.UUID(t.TopicID)
		}
	}
	return ids, nil
}

// Ensure creates the topics that are missing, waits until the brokers show
// them, and returns their names. Safe to repeat, and safe when two run at once.
func Ensure(ctx context.Context, cl *kgo.Client, specs []Spec) ([]string, error) {
	have, err := IDs(ctx, cl)
	if err != nil {
		return nil, err
	}
	adm := kadm.NewClient(cl)
	var created []string
	for _, s := range specs {
		if _, ok := have[s.Name]; ok {
			continue
		}
		cfg := make(map[string]*string, len(s.Config))
		for k, v := range s.Config {
			cfg[k] = &v
		}
		_, err := adm.CreateTopic(ctx, s.Partitions, s.Replication, cfg, s.Name)
		switch {
		case errors.Is(err, kerr.TopicAlreadyExists): // another migrate was faster
		case err != nil:
			return created, fmt.Errorf("create topic %s: %w", s.Name, err)
		default:
			created = append(created, s.Name)
		}
	}
	return created, await(ctx, cl, specs)
}

const (
	// awaitTimeout bounds the wait for new topics to have leaders.
	awaitTimeout = 30 * time.Second
	awaitPause   = 50 * time.Millisecond
)

// await returns nil once the brokers show every topic.
func await(ctx context.Context, cl *kgo.Client, specs []Spec) error {
	ctx, cancel := context.WithTimeout(ctx, awaitTimeout)
	defer cancel()
	for {
		have, err := IDs(ctx, cl)
		if err != nil {
			return err
		}
		if len(absent(have, specs)) == 0 {
			return nil
		}
		select {
		case <-time.After(awaitPause):
		case <-ctx.Done():
			return fmt.Errorf("new topics did not appear within %s: %w", awaitTimeout, ctx.Err())
		}
	}
}

func absent(have map[string]uuid.UUID, specs []Spec) (names []string) {
	for _, s := range specs {
		if _, ok := have[s.Name]; !ok {
			names = append(names, s.Name)
		}
	}
	return names
}

// critical are the settings of a topic that correctness rests on; the rest are
// the operator's to tune.
func critical(name string) map[string]string {
	cleanup := "delete"
	if slices.Contains(tables, name) {
		cleanup = "compact"
	}
	return map[string]string{"cleanup.policy": cleanup, "message.timestamp.type": "LogAppendTime"}
}

var events = regexp.MustCompile(EventsPattern)

// IsEvents says whether a topic carries events.
func IsEvents(name string) bool { return events.MatchString(name) }

// Check looks at the event topics that exist, of which Audit must, at the topics
// of API calls and of dead letters, and at the tables. It reports what is missing, or configured
// such that records could be lost or misdated, in one sentence that says what to
// do.
func Check(ctx context.Context, cl *kgo.Client) error {
	have, err := IDs(ctx, cl)
	if err != nil {
		return err
	}
	names := append([]string{Audit, audit.APICallsTopic, DeadLetter}, tables...)
	for name := range have {
		if IsEvents(name) && name != Audit {
			names = append(names, name)
		}
	}
	return check(ctx, cl, have, names)
}

// CheckOne is Check for one topic.
func CheckOne(ctx context.Context, cl *kgo.Client, name string) error {
	have, err := IDs(ctx, cl)
	if err != nil {
		return err
	}
	return check(ctx, cl, have, []string{name})
}

func check(ctx context.Context, cl *kgo.Client, have map[string]uuid.UUID, names []string) error {
	for _, name := range names {
		if _, ok := have[name]; !ok {
			return absence(ctx, cl, name)
		}
	}
	wrong, err := Wrong(ctx, cl, names)
	if err != nil || len(wrong) == 0 {
		return err
	}
	var all []string
	for _, err := range wrong {
		all = append(all, err.Error())
	}
	slices.Sort(all)
	return errors.New(strings.Join(all, "; "))
}

// absence says why a topic is not among those that the brokers list: it need
// not be missing, it may be out of our sight.
func absence(ctx context.Context, cl *kgo.Client, name string) error {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &name
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("ask for topic %s: %w", name, err)
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("topic %s cannot be used: %w", name, err)
		}
	}
	return fmt.Errorf("topics are missing, %s is one: run auditrail migrate", name)
}

// Wrong reports those of the named topics that are configured such that records
// could be lost or misdated, each with a sentence that says what to do.
func Wrong(ctx context.Context, cl *kgo.Client, names []string) (map[string]error, error) {
	if len(names) == 0 {
		return nil, nil
	}
	configs, err := kadm.NewClient(cl).DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", err)
	}
	wrong := map[string]error{}
	for _, name := range names {
		rc, err := configs.On(name, nil)
		if err == nil {
			err = rc.Err
		}
		if err != nil {
			return nil, fmt.Errorf("describe topic %s: %w", name, err)
		}
		must := critical(name)
		for _, c := range rc.Configs {
			if must, ok := must[c.Key]; ok && c.MaybeValue() != must {
				wrong[name] = fmt.Errorf("topic %s has %s=%s, it must be %s: alter it", name, c.Key, c.MaybeValue(), must)
			}
		}
	}
	return wrong, nil
}
