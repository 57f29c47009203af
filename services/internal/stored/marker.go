package stored

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// markerVersion leads the metadata of every commit of ingest, so that a later
// form can be told apart.
const markerVersion = "1"

// Marker is the metadata of a commit: the incarnation of the topic that the
// offset belongs to, and what ingest adds for itself.
func Marker(topicID uuid.UUID, more string) string {
	return strings.TrimSuffix(markerVersion+" "+topicID.String()+" "+more, " ")
}

// ParseMarker reads the metadata of a commit. more are the words after the
// topic id.
func ParseMarker(metadata string) (topicID uuid.UUID, more []string, err error) {
	f := strings.Fields(metadata)
	if len(f) < 2 || f[0] != markerVersion {
		return uuid.Nil, nil, fmt.Errorf("commit metadata %q was not written by ingest", metadata)
	}
	if topicID, err = uuid.Parse(f[1]); err != nil {
		return uuid.Nil, nil, fmt.Errorf("commit metadata %q: %w", metadata, err)
	}
	return topicID, f[2:], nil
}
