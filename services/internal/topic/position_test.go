package topic

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestPositionsAreReadAsTheyAreWritten(t *testing.T) {
	const written = "5d0d1f4a-6a55-4e0c-9f53-0c6a3c1f7a01/3/7"
	want := Position{TopicID: uuid.MustParse("5d0d1f4a-6a55-4e0c-9f53-0c6a3c1f7a01"), Partition: 3, Offset: 7}
	if got, err := ParsePosition(written); err != nil || got != want || got.String() != written {
		t.Errorf("got %s, %v", got, err)
	}
	id := strings.TrimSuffix(written, "/3/7")
	for _, s := range []string{"", id, "audit.events.pm.v1/3/7", "/3/7", id + "/3", id + "/3/7/0", id + "/-1/0", id + "/0/-1", id + "/0/x", id + "/99999999999/0"} {
		if p, err := ParsePosition(s); err == nil {
			t.Errorf("%q is taken for %s", s, p)
		}
	}
}
