package audit

import (
	"encoding/json"
	"testing"
	"time"

	segmentio "github.com/segmentio/encoding/json"
)

// workload is an event as modules send them: 676 bytes, as in the average of
// the load generator.
const workload = `{"id":"56065e75-47ad-44b4-9121-4e19385bf7e0","auditEnabledAppId":5,"applicationName":"edr","moduleCode":"UM","moduleName":"User Management","userName":"Maria Rossi 31","userRole":"Administrator","userUuid":"8b7737c9-6133-492a-a7d7-33fd078ce595","customerUuid":"1263b8de-7a2b-4442-a62a-7e3ea8cd6b49","client":"REST-API","sourceIp":"167.35.71.104","createdDate":1782800599113,"targetType":"Report","targetName":"Report-4013","action":"Assign","status":"Success","auditComment":"Patch KB5051498 for Windows 11 was marked Assign on 398 assets, triggered by the scheduled synchronization","externalChangeLink":"https://portal.example.com/edr/changes/56065e75-47ad?tenant=1263b8de"}`

var workloadClock = time.UnixMilli(1782800599113).Add(time.Hour)

func workloadEvent(tb testing.TB) *Event {
	tb.Helper()
	e := new(Event)
	if err := Decode([]byte(workload), e); err != nil {
		tb.Fatal(err)
	}
	return e
}

func BenchmarkDecode(b *testing.B) {
	p := []byte(workload)
	var e Event
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Decode(p, &e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeYardstickSegmentio(b *testing.B) {
	p := []byte(workload)
	var e plainEvent
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		e = plainEvent{}
		if _, err := segmentio.Parse(p, &e, segmentio.ZeroCopy|segmentio.DontMatchCaseInsensitiveStructFields); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeYardstickStandard(b *testing.B) {
	p := []byte(workload)
	var e plainEvent
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		e = plainEvent{}
		if err := json.Unmarshal(p, &e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	e := workloadEvent(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Validate(workloadClock, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	e := workloadEvent(b)
	dst := make([]byte, 0, 2048)
	b.SetBytes(int64(len(workload)))
	b.ReportAllocs()
	for b.Loop() {
		out, err := e.AppendJSON(dst)
		if err != nil || len(out) != len(workload) {
			b.Fatal(err, len(out))
		}
	}
}

func BenchmarkAppendJSONYardstickSegmentio(b *testing.B) {
	e := plainEvent(*workloadEvent(b))
	dst := make([]byte, 0, 2048)
	b.SetBytes(int64(len(workload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := segmentio.Append(dst, &e, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSONYardstickStandard(b *testing.B) {
	e := plainEvent(*workloadEvent(b))
	b.SetBytes(int64(len(workload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := json.Marshal(&e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeAPICall(b *testing.B) {
	p := []byte(callWorkload)
	var c APICall
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if err := DecodeAPICall(p, &c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidateAPICall(b *testing.B) {
	c := workloadCall(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Validate(workloadClock, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSONAPICall(b *testing.B) {
	c := workloadCall(b)
	dst := make([]byte, 0, 2048)
	b.SetBytes(int64(len(callWorkload)))
	b.ReportAllocs()
	for b.Loop() {
		out, err := c.AppendJSON(dst)
		if err != nil || len(out) != len(callWorkload) {
			b.Fatal(err, len(out))
		}
	}
}

func BenchmarkAPICallID(b *testing.B) {
	c := workloadCall(b)
	b.ReportAllocs()
	for b.Loop() {
		if c.ID() == [16]byte{} {
			b.Fatal("no id")
		}
	}
}

// plainEvent is an Event without its methods.
type plainEvent Event
