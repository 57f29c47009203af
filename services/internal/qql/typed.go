package qql

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/auditrail/auditrail/services/internal/field"
)

// typed says whether the values of a type are read as a Value; those of the
// others are texts.
func typed(t field.Type) bool {
	return t == field.Number || t == field.Instant || t == field.Address || t == field.UUID
}

// ranges says whether the values of a type have an order.
func ranges(t field.Type) bool {
	return t == field.Number || t == field.Instant || t == field.Address
}

// kind names a type in messages.
func kind(t field.Type) string {
	switch t {
	case field.Number:
		return "a number"
	case field.Instant:
		return "a date"
	case field.Address:
		return "an address"
	case field.UUID:
		return "a UUID"
	case field.Opaque:
		return "an id"
	default:
		return "a text"
	}
}

// samples are two values that a field may have, for examples.
func samples(f *field.Field) (one, other string) {
	switch f.Type {
	case field.Number:
		return "21", "22"
	case field.Instant:
		return "2026-01-31", "2026-02-28"
	case field.Address:
		return "10.0.0.0/8", "192.168.0.0/16"
	case field.UUID:
		return "eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9", "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
	case field.Opaque:
		return "1c9a83aa-20p8-e972-8036-899e5e608855", "33fe8ca3-d843-53ac-82e3-21cfb833d389"
	case field.Keyword, field.Text, field.JSON:
	}
	switch f.Name {
	case "action":
		return "Add", "Delete"
	case "userName":
		return "jack", "jill"
	case "state":
		return "Running", "Finished"
	case "moduleCode":
		return "VM", "VMDR"
	case "field":
		return "role", "owner"
	}
	return "these words", "other words"
}

// parseValue reads a value of a typed field.
func parseValue(f *field.Field, text string) (Value, error) {
	wrong := func(such string) error {
		return fmt.Errorf("%s is %s: %s is not one; write one such as %s", f.Name, kind(f.Type), quoteForMessage(text), such)
	}
	switch f.Type {
	case field.Number:
		n, err := strconv.ParseUint(text, 10, 64)
		if strings.Trim(text, "0123456789") != "" || text == "" {
			return nil, wrong("21")
		}
		if err != nil || n > math.MaxUint32 {
			return nil, fmt.Errorf("%s is at most %d: %s is more", f.Name, math.MaxUint32, clip(text))
		}
		return Number(n), nil
	case field.Instant:
		return parseDate(f, text)
	case field.UUID:
		id, err := uuid.Parse(text)
		if err != nil || len(text) != 36 {
			return nil, wrong("eaa0a5b2-1e46-4f43-9dfe-578a88ae01c9")
		}
		return ID(id), nil
	default:
		return parseAddress(f, text, wrong)
	}
}

func parseAddress(f *field.Field, text string, wrong func(such string) error) (Value, error) {
	if strings.Contains(text, "/") {
		n, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, wrong("10.0.0.0/8")
		}
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		return Network(n.Masked()), nil
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil && strings.Contains(text, "*"):
		return nil, wrong("10.0.0.0/8, which has all that begin with 10")
	case err != nil || a.Zone() != "":
		return nil, wrong("10.1.2.3 or 10.0.0.0/8")
	case a == netip.IPv6Unspecified():
		return nil, fmt.Errorf(":: stands for no address: write %s is null", f.Name)
	}
	return Addr(a.Unmap()), nil
}

// parseBound reads an end of a range: not a network.
func parseBound(f *field.Field, text string) (Value, error) {
	v, err := parseValue(f, text)
	if _, ok := v.(Network); ok {
		return nil, fmt.Errorf("%s is a network: write an address here, or %s: %s for all of the network", clip(text), f.Name, clip(text))
	}
	return v, err
}

func quoteForMessage(s string) string { return `"` + clip(s) + `"` }
