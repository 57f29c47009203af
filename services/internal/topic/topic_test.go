package topic

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestATopicOutOfSightIsNotCalledMissing: migrate would not help.
func TestATopicOutOfSightIsNotCalledMissing(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := CheckOne(t.Context(), cl, Settings); err == nil || !strings.Contains(err.Error(), "run auditrail migrate") {
		t.Errorf("got %v, want what to do about a missing topic", err)
	}
	cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked := req.(*kmsg.MetadataRequest)
		if len(asked.Topics) != 1 {
			return nil, nil, false // the broker's own answer
		}
		resp := asked.ResponseKind().(*kmsg.MetadataResponse)
		denied := kmsg.NewMetadataResponseTopic()
		denied.Topic, denied.ErrorCode = asked.Topics[0].Topic, kerr.TopicAuthorizationFailed.Code
		resp.Topics = append(resp.Topics, denied)
		return resp, nil, true
	})
	if err := CheckOne(t.Context(), cl, Settings); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("got %v, want %v", err, kerr.TopicAuthorizationFailed)
	}
}

// TestTablesKeepTheirRecords: time and size must not take what is current.
func TestTablesKeepTheirRecords(t *testing.T) {
	found := 0
	for _, s := range (Config{Modules: []string{"PM"}, Partitions: 2, Replication: 1, Retention: time.Hour}).Specs() {
		for key, want := range critical(s.Name) {
			if s.Config[key] != want {
				t.Errorf("%s is made with %s=%s, and checked to be %s", s.Name, key, s.Config[key], want)
			}
		}
		if s.Config["cleanup.policy"] != "compact" {
			continue
		}
		found++
		if s.Partitions != 1 || s.Config["retention.ms"] != "-1" || s.Config["retention.bytes"] != "-1" || s.Config["max.compaction.lag.ms"] != "" {
			t.Errorf("%s: %d partitions, %v", s.Name, s.Partitions, s.Config)
		}
	}
	if found != len(tables) {
		t.Errorf("%d tables, want %d", found, len(tables))
	}
}
