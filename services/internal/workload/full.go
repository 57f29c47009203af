package workload

import (
	"bytes"
	"encoding/json"

	"github.com/auditrail/auditrail/pkg/audit"
)

// Shares in the full workload, 0 to 1.
const (
	// noUnitShare of the made-up users belong to no business unit.
	noUnitShare = 0.1
	// noEndpointShare of the events come from modules that name none.
	noEndpointShare = 0.05
	// changesShare of the updates say what they changed.
	changesShare = 0.9
	// webRequestShare of the events of people have a request id; calls of the
	// API always do, background tasks never.
	webRequestShare = 0.7
	// autoUpdateShare of the policy updates in the background are generated.
	autoUpdateShare = 0.5
)

// maxEdits is how many settings one update changes, at most.
const maxEdits = 3

// later adds the fields that came later. It draws from the full stream only.
func (g *Generator) later(e *audit.Event, u *user) {
	r := g.full
	e.BusinessUnit = u.BusinessUnit
	endpoint := endpointOf(e.Client, e.Action)
	if r.Float64() >= noEndpointShare {
		e.EndpointType = endpoint
	}
	if endpoint == audit.EndpointAPI || endpoint == audit.EndpointWebUI && r.Float64() < webRequestShare {
		id := newUUID(r)
		e.RequestID = string(id[:])
	}
	if endpoint == audit.EndpointBackgroundTask && e.TargetType == "Policy" && e.Action == "Update" && r.Float64() < autoUpdateShare {
		e.Origin = audit.OriginAutoUpdate
	}
	e.Changes = g.edits(e.Action)
}

// endpointOf follows from the client. A login through the API is no event, so
// that logins never have that type.
func endpointOf(client, action string) string {
	switch client {
	case "Scheduler":
		return audit.EndpointBackgroundTask
	case "REST-API", "CLI":
		if action != "Login" {
			return audit.EndpointAPI
		}
	}
	return audit.EndpointWebUI
}

// edits makes the changes of a configuration edit, nil for other actions.
func (g *Generator) edits(action string) json.RawMessage {
	switch action {
	case "Enable":
		return json.RawMessage(`[{"field":"enabled","before":false,"after":true}]`)
	case "Disable":
		return json.RawMessage(`[{"field":"enabled","before":true,"after":false}]`)
	case "Update":
		if g.full.Float64() < changesShare {
			return g.edit(1 + g.full.IntN(maxEdits))
		}
	}
	return nil
}

// edit changes n neighbouring settings to another value.
func (g *Generator) edit(n int) json.RawMessage {
	start := g.full.IntN(len(settings))
	b := append(g.changes[:0], '[')
	for i := range n {
		s := settings[(start+i)%len(settings)]
		before := g.full.IntN(len(s.values))
		after := (before + 1 + g.full.IntN(len(s.values)-1)) % len(s.values)
		b = append(b, `{"field":"`...)
		b = append(b, s.name...)
		b = append(b, `","before":`...)
		b = append(b, s.values[before]...)
		b = append(b, `,"after":`...)
		b = append(b, s.values[after]...)
		b = append(b, '}', ',')
	}
	b[len(b)-1] = ']'
	g.changes = b
	return bytes.Clone(b)
}
