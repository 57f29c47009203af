package workload

import (
	"strconv"

	"github.com/auditrail/auditrail/pkg/audit"
)

// RareWord ends about one auditComment in 20,000.
const RareWord = "quarantined-by-policy"

const rareWordOneIn = 20_000

// targetName appends a name that fits the type.
func (g *Generator) targetName(b []byte, targetType string) []byte {
	switch targetType {
	case "User", "Role":
		b = g.word(b, "", firstNames)
		return g.word(b, " ", lastNames)
	case "Asset", "Connector":
		return g.host(b)
	}
	b = append(b, targetType...)
	return g.number(b, "-", 0, 5000)
}

// comment appends one of the sentences. target is e's target name, which e
// does not have yet.
func (g *Generator) comment(b []byte, e *audit.Event, target []byte) []byte {
	sentences := [...]func([]byte, *audit.Event, []byte) []byte{
		g.performed, g.patched, g.edited, g.finished, g.excepted, g.session,
	}
	b = sentences[g.base.IntN(len(sentences))](b, e, target)
	if g.base.IntN(rareWordOneIn) == 0 {
		b = append(b, " "+RareWord...)
	}
	return b
}

func (g *Generator) performed(b []byte, e *audit.Event, target []byte) []byte {
	b = append(b, e.Action...)
	b = append(b, " performed on "...)
	b = append(b, e.TargetType...)
	b = append(b, " '"...)
	b = append(b, target...)
	return g.word(b, "' ", reasons)
}

func (g *Generator) patched(b []byte, e *audit.Event, _ []byte) []byte {
	b = g.number(b, "Patch KB", 5_000_000, 60_000)
	b = g.word(b, " for ", systems)
	b = append(b, " was marked "...)
	b = append(b, e.Action...)
	b = g.number(b, " on ", 1, 400)
	return g.word(b, " assets, ", reasons)
}

func (g *Generator) edited(b []byte, e *audit.Event, target []byte) []byte {
	b = append(b, "User "...)
	b = append(b, e.UserName...)
	b = g.word(b, " changed field ", targetTypes)
	b = g.word(b, ` from "`, roles)
	b = g.word(b, `" to "`, roles)
	b = append(b, `" for `...)
	return append(b, target...)
}

func (g *Generator) finished(b []byte, e *audit.Event, _ []byte) []byte {
	b = g.number(b, "Job ", 100_000, 900_000)
	b = append(b, " finished with status "...)
	b = append(b, e.Status...)
	b = g.number(b, " in ", 1, 3600)
	b = g.number(b, " seconds; ", 0, 500)
	b = g.word(b, " targets processed on ", systems)
	return g.word(b, ", ", reasons)
}

func (g *Generator) excepted(b []byte, e *audit.Event, _ []byte) []byte {
	b = g.number(b, "Vulnerability CVE-20", 18, 9)
	b = g.number(b, "-", 1000, 49_000)
	b = append(b, " exception "...)
	b = append(b, e.Action...)
	b = append(b, " for host "...)
	b = g.host(b)
	return g.word(b, " ", reasons)
}

func (g *Generator) session(b []byte, e *audit.Event, target []byte) []byte {
	b = append(b, "Session from "...)
	b = append(b, e.SourceIP...)
	b = append(b, " via "...)
	b = append(b, e.Client...)
	b = append(b, ": "...)
	b = append(b, e.Action...)
	b = append(b, ' ')
	b = append(b, e.TargetType...)
	b = append(b, ' ')
	b = append(b, target...)
	b = append(b, " in "...)
	return append(b, e.ModuleName...)
}

// host appends the name of one of 20,000 hosts.
func (g *Generator) host(b []byte) []byte {
	b = g.number(b, "srv-", 0, 20_000)
	return append(b, ".corp.example"...)
}

// number appends before and one of n numbers from low on.
func (g *Generator) number(b []byte, before string, low, n int) []byte {
	b = append(b, before...)
	return strconv.AppendInt(b, int64(low+g.base.IntN(n)), 10)
}

// word appends before and one of the words.
func (g *Generator) word(b []byte, before string, words []string) []byte {
	b = append(b, before...)
	return append(b, oneOf(g.base, words)...)
}
