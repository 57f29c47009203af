package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// An event too old for the retention of one day is listed, shown, tried,
// redriven and found, once dev keeps events for longer.
func TestADeadLetterComesBack(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.env = []string{"AUDITRAIL_RETENTION_DAYS=1"}
	d.start("--demo-rate", "0")
	command := func(args ...string) (stdout, stderr string) {
		t.Helper()
		stdout, stderr, code := auditrail(t, "", append([]string{"deadletter", args[0], "--kafka-addr", d.kafka}, args[1:]...)...)
		if code != 0 {
			t.Fatalf("deadletter %v ended with %d: %s%s", args, code, stdout, stderr)
		}
		return stdout, stderr
	}
	if _, said := command("list"); said != "no dead letters\n" {
		t.Errorf("at the start list says %q", said)
	}
	record := sample(time.Now().AddDate(0, 0, -3).UnixMilli())
	d.produce("audit.events.pm.v1", record)
	d.produce("audit.events.pm.v1", "this is not JSON")
	var listed string
	d.until("two dead letters", func() (bool, string) {
		listed, _ = command("list")
		return strings.Count(listed, "audit.events.pm.v1/") == 2, listed
	})
	var position string
	for line := range strings.Lines(listed) {
		if fields := strings.Fields(line); fields[2] == "too-old" && fields[3] == sampleCustomer {
			position = fields[1]
		}
	}
	if position == "" {
		t.Fatalf("no letter that is too old in\n%s", listed)
	}
	if said, _ := command("show", position); !strings.Contains(said, "too-old") || !strings.Contains(said, `  "auditComment": "Created new User"`) {
		t.Errorf("show says\n%s", said)
	}
	if raw, _ := command("show", "--raw", position); raw != record {
		t.Errorf("show --raw gives\n%s\nwant\n%s", raw, record)
	}
	d.stop()
	d.env = nil
	d.start("--demo-rate", "0")
	if said, _ := command("redrive", "--reason", "too-old", "--dry-run"); !strings.Contains(said, "1 would be sent, 0 skipped") {
		t.Errorf("the dry run says\n%s", said)
	}
	if said, _ := command("redrive", "--module", "PM"); !strings.Contains(said, "1 sent, 1 skipped, 0 failed") {
		t.Errorf("redrive says\n%s", said)
	}
	d.total(d.token("--customer", sampleCustomer), 1)
	if listed, said := command("list"); strings.Contains(listed, position) || !strings.Contains(said, "1 that was redriven") {
		t.Errorf("afterwards list says\n%s%s", listed, said)
	}

	for _, c := range []struct {
		want string
		args []string
	}{
		{"--all", []string{"redrive", "--kafka-addr", d.kafka}},
		{"does not answer", []string{"list", "--kafka-addr", "127.0.0.1:1"}},
		{"such as 24h", []string{"list", "--since", "yesterday"}},
		{"topic/partition/offset", []string{"show", "12"}},
		{"audit.events.pm.v1/0/999", []string{"show", "--kafka-addr", d.kafka, "audit.events.pm.v1/0/999"}},
	} {
		if _, stderr, code := auditrail(t, "", append([]string{"deadletter"}, c.args...)...); code == 0 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: got exit code %d and %q, want %q named", c.args, code, stderr, c.want)
		}
	}
}

// What is in the environment by chance chooses no dead letters.
func TestTheEnvironmentRedrivesNothing(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(binary(), "deadletter", "redrive", "--kafka-addr", "127.0.0.1:1")
	cmd.Env = append(os.Environ(), "AUDITRAIL_ALL=true", "AUDITRAIL_MODULE=PM", "AUDITRAIL_REASON=json", "AUDITRAIL_TOPIC=audit.events.pm.v1",
		"AUDITRAIL_CUSTOMER=c1", "AUDITRAIL_SINCE=24h", "AUDITRAIL_UNTIL=1h", "AUDITRAIL_FORCE=true")
	if said, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(said), "or say --all") {
		t.Errorf("redrive without a filter: %v, %s", err, said)
	}
}
