package ingest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestFetchPoolLendsEnough(t *testing.T) {
	p := new(fetchPool)
	for n := range 70 {
		if got := p.GetRecords(n); cap(got) < n {
			t.Errorf("room for %d records of %d", cap(got), n)
		}
		// What comes back is lent again only to who asks for no more.
		p.PutRecords(make([]kgo.Record, n))
		if got := p.GetRecords(n + 1); cap(got) < n+1 {
			t.Errorf("room for %d records of %d", cap(got), n+1)
		}
		if got := p.GetDecompressBytes(make([]byte, n), kgo.CodecLz4); cap(got) < n {
			t.Errorf("room for %d bytes of %d packed", cap(got), n)
		}
	}
}
