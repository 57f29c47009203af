package testenv

import (
	"context"
	"embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditrail/auditrail/services/internal/kafka"
)

// libEnv names the folder of Apache Kafka's jars; make test-kafka fills and
// sets it.
const libEnv = "AUDITRAIL_TEST_KAFKA_LIB"

//go:embed apachekafka/log4j2.yaml
var apacheKafkaFiles embed.FS

const (
	// maxClusters bounds the clusters of this process: a broker takes about
	// 350 MB and, while it starts, a core.
	maxClusters = 3
	// clusterTimeout bounds the start of a cluster on a busy machine.
	clusterTimeout = 2 * time.Minute
	// clusterID is any id: a cluster lives as long as its test.
	clusterID = "auditrail-test-clusterid"
)

var clusters = make(chan struct{}, maxClusters)

// apacheKafka starts a KRaft cluster of n brokers of the test's own.
func apacheKafka(t testing.TB, n int) kafka.Config {
	t.Helper()
	if found, _ := filepath.Glob(filepath.Join(os.Getenv(libEnv), "kafka_*.jar")); len(found) == 0 {
		t.Fatalf("%s=%q has no Apache Kafka: run these tests with make test-kafka", libEnv, os.Getenv(libEnv))
	}
	clusters <- struct{}{}
	t.Cleanup(func() { <-clusters })
	c := &cluster{t: t, dir: t.TempDir()}
	for range n {
		c.clients, c.controllers = append(c.clients, freePort(t)), append(c.controllers, freePort(t))
	}
	logging, err := apacheKafkaFiles.ReadFile("apachekafka/log4j2.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "log4j2.yaml"), logging, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c.start(i)
	}
	c.await()
	return kafka.Config{Addr: c.clients}
}

// cluster is a running Apache Kafka.
type cluster struct {
	t                    testing.TB
	dir                  string
	clients, controllers []string // addresses by broker
}

func freePort(t testing.TB) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // only to find a free port
	return ln.Addr().String()
}

// start formats a broker's folder and runs it until the test ends.
func (c *cluster) start(i int) {
	c.t.Helper()
	properties := filepath.Join(c.dir, fmt.Sprintf("%d.properties", i+1))
	if err := os.WriteFile(properties, []byte(c.properties(i)), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if out, err := c.java("kafka.tools.StorageTool", "format", "-t", clusterID, "-c", properties).CombinedOutput(); err != nil {
		c.t.Fatalf("format broker %d: %v\n%s", i+1, err, out)
	}
	log, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("%d.log", i+1)))
	if err != nil {
		c.t.Fatal(err)
	}
	java := c.java("kafka.Kafka", properties)
	// A shell waits for the end of its standard input, which comes when we
	// close it or die, and then ends the broker.
	cmd := exec.Command("sh", append([]string{"-c", `"$@" & p=$!; cat >/dev/null; kill -9 $p; wait $p`, "sh"}, java.Args...)...) //nolint:gosec,noctx // ended by its standard input
	cmd.Stdout, cmd.Stderr = log, log
	alive, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = alive.Close() // the signal to end
		_ = cmd.Wait()    // killed is how it ends
		_ = log.Close()   // written by the child alone
		if c.t.Failed() {
			words, _ := os.ReadFile(log.Name())
			c.t.Logf("log of broker %d:\n%s", i+1, words)
		}
	})
}

func (c *cluster) java(args ...string) *exec.Cmd {
	return exec.Command("java", append([]string{ //nolint:gosec,noctx // the test's own broker
		"-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", filepath.Join(os.Getenv(libEnv), "*"),
		"-Dlog4j2.configurationFile=" + filepath.Join(c.dir, "log4j2.yaml"),
	}, args...)...)
}

// properties makes a broker small and quick to start.
func (c *cluster) properties(i int) string {
	var voters []string
	for k, addr := range c.controllers {
		voters = append(voters, fmt.Sprintf("%d@%s", k+1, addr))
	}
	replicas, inSync := 1, 1
	if len(c.clients) >= 3 {
		replicas, inSync = 3, 2
	}
	var b strings.Builder
	for k, v := range map[string]any{
		"process.roles":                            "broker,controller",
		"node.id":                                  i + 1,
		"controller.quorum.voters":                 strings.Join(voters, ","),
		"controller.listener.names":                "CONTROLLER",
		"listeners":                                "PLAINTEXT://" + c.clients[i] + ",CONTROLLER://" + c.controllers[i],
		"advertised.listeners":                     "PLAINTEXT://" + c.clients[i],
		"listener.security.protocol.map":           "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                                 filepath.Join(c.dir, fmt.Sprint(i+1)),
		"offsets.topic.replication.factor":         replicas,
		"offsets.topic.num.partitions":             1,
		"transaction.state.log.replication.factor": replicas,
		"transaction.state.log.num.partitions":     1,
		"transaction.state.log.min.isr":            1,
		"default.replication.factor":               replicas,
		"min.insync.replicas":                      inSync,
		"group.initial.rebalance.delay.ms":         0,
		"auto.create.topics.enable":                false,
	} {
		fmt.Fprintf(&b, "%s=%v\n", k, v)
	}
	return b.String()
}

// await waits until every broker is known to the others.
func (c *cluster) await() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.clients...), kgo.AlwaysRetryEOF())
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for {
		brokers, err := adm.ListBrokers(ctx)
		if err == nil && len(brokers) == len(c.clients) {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			c.t.Fatalf("Apache Kafka did not start within %s: %d of %d brokers, %v", clusterTimeout, len(brokers), len(c.clients), err)
		}
	}
}
