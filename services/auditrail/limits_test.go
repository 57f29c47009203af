package main

import (
	"strings"
	"testing"
)

func TestAnOperatorSetsLimits(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start("--demo-rate", "0")
	manager := d.manager()
	limits := func(wantCode int, want, command string, args ...string) {
		t.Helper()
		args = append([]string{"limits", command, "--kafka-addr", d.kafka, "--customer", nextCustomer}, args...)
		stdout, stderr, code := auditrail(t, "", args...)
		if code != wantCode || !strings.Contains(stdout+stderr, want) {
			t.Errorf("%v: got %d, %s%s; want %d and %s", args, code, stdout, stderr, wantCode, want)
		}
	}
	const wanted = `{"default":{"concurrency":4},"apis":{"api/v1/*":{"unlimited":true},"audit-log/admin/search/fields":{"calls":7,"windowSec":60}}}`
	limits(0, "{}\n", "show")
	limits(0, wanted+"\n", "set", wanted)
	limits(0, wanted+"\n", "show")
	limits(0, "as before", "set", wanted)
	for want, bad := range map[string]string{
		"must be a JSON object": "7",
		"must be JSON":          `{"default"`,
		"default.concurrency must be a whole number from 1 to 10000": `{"default": {"concurrency": -1}}`,
		"apis[\"a\"].calls must be a whole number from 1 to 100000":  `{"apis": {"a": {"calls": 0, "windowSec": 60}}}`,
		"default.windowSec must be a whole number from 1 to 604800":  `{"default": {"calls": 1, "windowSec": 604801}}`,
		"default must have calls and windowSec both, or neither":     `{"default": {"calls": 1}}`,
		"only as its last character":                                 `{"apis": {"a*b": {"unlimited": true}}}`,
		"tier is unknown: limits have default and apis":              `{"tier": "Premium"}`,
	} {
		limits(1, want, "set", bad)
	}
	limits(80, "limits", "set")
	limits(0, wanted+"\n", "show") // what is refused changes nothing

	counts := func(calls string) {
		t.Helper()
		d.until(calls+" calls to count", func() (bool, string) {
			limit := manager.get(t, fieldsPath).header.Get("X-RateLimit-Limit")
			return limit == calls, limit
		})
	}
	counts("7")
	limits(0, "{}\n", "unset")
	limits(0, "as before", "unset")
	counts("300")
	// Two changes, each a request and an outcome.
	d.total(manager.token, 4)
	if said := d.search(manager.token, `{"pageSize":1}`).body; !strings.Contains(said, `"userName":"operator: `) || !strings.Contains(said, `"targetType":"API Limits"`) {
		t.Errorf("the newest event is not that of the last change: %s", said)
	}
}
