package audit

import "testing"

func TestSmoke(t *testing.T) {
	e := workloadEvent(t)
	if err := e.Validate(workloadClock, 0); err != nil {
		t.Fatal(err)
	}
	out, err := e.AppendJSON(nil)
	if err != nil || string(out) != workload {
		t.Fatalf("%s\n%s\n%v", out, workload, err)
	}
	if n := len(workload); n != 676 {
		t.Fatal(n)
	}
}
