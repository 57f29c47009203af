package testenv

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/auditrail/auditrail/services/internal/kafka"
)

// libEnv names the folder of Apache Kafka's jars; make test-kafka fills and
// sets it.
const libEnv = "AUDITRAIL_TEST_KAFKA_LIB"

//go:embed apachekafka/log4j2.yaml
var apacheKafkaFiles embed.FS

const (
	// maxBrokers bounds the brokers of this process: one takes about 350 MB and,
	// while it starts, a core.
	maxBrokers = 3
	// clusterTimeout bounds the start of a cluster on a busy machine.
	clusterTimeout = 2 * time.Minute
	// clusterID is any id: a cluster lives as long as its test.
	clusterID = "auditrail-test-clusterid"
	// firstNode is the node id of the first broker.
	firstNode = 1
)

// places bounds the brokers of this process.
var places = semaphore.NewWeighted(maxBrokers)

// Cluster is a KRaft cluster of Apache Kafka of a test's own. Brokers are
// numbered from 0; each is a broker and a controller.
type Cluster struct {
	t                    testing.TB
	dir                  string
	clients, controllers []string // addresses by broker
	advertised           []string // told to clients
	brokers              []*Command
}

// KafkaCluster starts n brokers of Apache Kafka, 1 to 3, and ends them with the
// test. With three, topics have three replicas and need two of them to take a
// write. It skips the test when tests do not run against Apache Kafka: the
// embedded broker has no replicas. The addresses that clients are told may be
// others, of proxies.
func KafkaCluster(t testing.TB, n int, advertised ...string) *Cluster {
	t.Helper()
	if !OnApacheKafka() {
		t.Skip("needs brokers of Apache Kafka, which the embedded one is not: make test-kafka runs it")
	}
	if found, _ := filepath.Glob(filepath.Join(os.Getenv(libEnv), "kafka_*.jar")); len(found) == 0 {
		t.Fatalf("%s=%q has no Apache Kafka: run these tests with make test-kafka", libEnv, os.Getenv(libEnv))
	}
	if err := places.Acquire(context.Background(), int64(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { places.Release(int64(n)) })
	c := &Cluster{t: t, dir: t.TempDir()}
	for range n {
		client, err := FreeAddr()
		controller, err2 := FreeAddr()
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		c.clients, c.controllers = append(c.clients, client), append(c.controllers, controller)
	}
	if c.advertised = advertised; advertised == nil {
		c.advertised = c.clients
	}
	logging, err := apacheKafkaFiles.ReadFile("apachekafka/log4j2.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "log4j2.yaml"), logging, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c.format(i)
		if err := c.run(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.await(c.clients); err != nil {
		t.Fatal(err)
	}
	return c
}

// Config is what services take to reach the cluster.
func (c *Cluster) Config() kafka.Config { return kafka.Config{Addr: c.advertised} }

// Addr is the address that broker i listens on.
func (c *Cluster) Addr(i int) string { return c.clients[i] }

// Broker is the number of the broker that has a node id.
func (c *Cluster) Broker(node int32) int { return int(node) - firstNode }

// Kill ends broker i as kill -9 does, and waits until it is gone.
func (c *Cluster) Kill(i int) { c.brokers[i].Kill() }

// Pause stops broker i where it is; Resume lets it go on.
func (c *Cluster) Pause(i int) { c.brokers[i].Pause() }

// Resume lets a paused broker go on.
func (c *Cluster) Resume(i int) { c.brokers[i].Resume() }

// Start starts broker i again after Kill, on the same address and data, and
// returns once it is one of the cluster again.
func (c *Cluster) Start(i int) error {
	if err := c.run(i); err != nil {
		return err
	}
	return c.await(c.clients[i : i+1])
}

// file is the path of what belongs to broker i.
func (c *Cluster) file(i int, suffix string) string {
	return filepath.Join(c.dir, strconv.Itoa(i+firstNode)+suffix)
}

// format prepares a broker's folder.
func (c *Cluster) format(i int) {
	c.t.Helper()
	if err := os.WriteFile(c.file(i, ".properties"), []byte(c.properties(i)), 0o600); err != nil {
		c.t.Fatal(err)
	}
	java := c.java("kafka.tools.StorageTool", "format", "-t", clusterID, "-c", c.file(i, ".properties"))
	if out, err := exec.Command(java[0], java[1:]...).CombinedOutput(); err != nil { //nolint:gosec,noctx // the test's own broker
		c.t.Fatalf("format broker %d: %v\n%s", i, err, out)
	}
	b := &Command{Log: c.file(i, ".log")}
	c.brokers = append(c.brokers, b)
	c.t.Cleanup(func() {
		b.Kill()
		if c.t.Failed() {
			words, _ := os.ReadFile(b.Log)
			c.t.Logf("log of broker %d:\n%s", i, words)
		}
	})
}

// run starts a broker's process.
func (c *Cluster) run(i int) error {
	java := c.java("kafka.Kafka", c.file(i, ".properties"))
	return c.brokers[i].Start(java[0], java[1:]...)
}

// java is a command line.
func (c *Cluster) java(args ...string) []string {
	return append([]string{
		"java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", filepath.Join(os.Getenv(libEnv), "*"),
		"-Dlog4j2.configurationFile=" + filepath.Join(c.dir, "log4j2.yaml"),
	}, args...)
}

// properties makes a broker small and quick to start.
func (c *Cluster) properties(i int) string {
	var voters []string
	for k, addr := range c.controllers {
		voters = append(voters, fmt.Sprintf("%d@%s", k+firstNode, addr))
	}
	replicas, inSync := 1, 1
	if len(c.clients) >= 3 {
		replicas, inSync = 3, 2
	}
	var b strings.Builder
	for k, v := range map[string]any{
		"process.roles":                            "broker,controller",
		"node.id":                                  i + firstNode,
		"controller.quorum.voters":                 strings.Join(voters, ","),
		"controller.listener.names":                "CONTROLLER",
		"listeners":                                "PLAINTEXT://" + c.clients[i] + ",CONTROLLER://" + c.controllers[i],
		"advertised.listeners":                     "PLAINTEXT://" + c.advertised[i],
		"listener.security.protocol.map":           "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                                 c.file(i, ""),
		"offsets.topic.replication.factor":         replicas,
		"offsets.topic.num.partitions":             1,
		"transaction.state.log.replication.factor": replicas,
		"transaction.state.log.num.partitions":     1,
		"transaction.state.log.min.isr":            1,
		"default.replication.factor":               replicas,
		"min.insync.replicas":                      inSync,
		"group.initial.rebalance.delay.ms":         0,
		"auto.create.topics.enable":                false,
		// A broker that is gone is noticed within seconds.
		"broker.session.timeout.ms":    3000,
		"broker.heartbeat.interval.ms": 500,
		"replica.lag.time.max.ms":      5000,
	} {
		fmt.Fprintf(&b, "%s=%v\n", k, v)
	}
	return b.String()
}

// await waits until each broker at addrs answers and knows all the others.
func (c *Cluster) await(addrs []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
	defer cancel()
	for _, addr := range addrs {
		if err := c.awaitOne(ctx, addr); err != nil {
			return fmt.Errorf("broker %s of Apache Kafka was not there within %s: %w", addr, clusterTimeout, err)
		}
	}
	return nil
}

func (c *Cluster) awaitOne(ctx context.Context, addr string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AlwaysRetryEOF())
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		// Of this broker: what others know of it is not what it can do.
		resp, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl.SeedBrokers()[0])
		if err == nil && len(resp.Brokers) == len(c.clients) {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}
