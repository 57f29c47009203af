package apicall

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/auditrail/auditrail/pkg/audit"
)

const (
	maxModuleCode = audit.MaxModuleCodeBytes

	// maxUserName is the longest user name of a record, in bytes. An event may
	// have a longer one, but a caller's name is in every record of every call.
	maxUserName = 4 << 10
)

// Errors of Begin about what it was told. Handler answers them with 500: the
// module's Caller is at fault.
var (
	errNoCustomer  = errors.New("caller without a usable CustomerUUID: it needs 1 to 64 bytes of UTF-8")
	errNoUser      = errors.New("caller with neither UserUUID nor UserName: one is needed")
	errCallerUnset = errors.New("api calls: Handler needs Config.Caller")
)

// checkAPI says what is wrong with the name of an API.
func checkAPI(api string) error {
	switch {
	case api == "":
		return errors.New("the name of an API is empty")
	case len(api) > audit.MaxAPIBytes:
		return fmt.Errorf("the name of an API has %d bytes, at most %d are allowed", len(api), audit.MaxAPIBytes)
	case !utf8.ValidString(api):
		return errors.New("the name of an API is not valid UTF-8")
	case api[0] == '/':
		return fmt.Errorf("the name of an API is a path without its leading slash, not %q", api)
	case strings.HasSuffix(api, "*"):
		return fmt.Errorf("the name of an API ends in *, which is how limits name several: %q", api)
	case strings.ContainsFunc(api, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("the name of an API has a control character: %q", api)
	}
	return nil
}

// describe fills in what all records of a call say. Whatever a client sent is
// made fit for the contract: a call is listed, however odd its caller's names.
func (run *Running) describe(call *Call) error {
	who := &call.Caller
	if who.CustomerUUID == "" || len(who.CustomerUUID) > audit.MaxIDBytes || !utf8.ValidString(who.CustomerUUID) {
		return errNoCustomer
	}
	if who.UserUUID == "" && who.UserName == "" {
		return errNoUser
	}
	run.record = audit.APICall{
		CallID:        audit.NewID(run.submitted),
		CustomerUUID:  who.CustomerUUID,
		ModuleCode:    run.calls.cfg.ModuleCode,
		API:           call.API,
		Method:        clean(call.Method, audit.MaxMethodBytes),
		SubmittedDate: run.submitted.UnixMilli(),
		UserName:      clean(who.UserName, maxUserName),
		UserRole:      clean(who.UserRole, audit.MaxNameBytes),
		UserUUID:      clean(who.UserUUID, audit.MaxIDBytes),
		BusinessUnit:  clean(who.BusinessUnit, audit.MaxNameBytes),
		Client:        clean(call.Client, audit.MaxNameBytes),
		SourceIP:      cleanAddress(call.SourceIP),
		RequestID:     clean(call.RequestID, audit.MaxNameBytes),
	}
	return nil
}

// clean makes s valid UTF-8 of at most limit bytes, cut at a character.
func clean(s string, limit int) string {
	if len(s) <= limit && utf8.ValidString(s) {
		return s
	}
	if len(s) > limit {
		s = s[:min(len(s), limit+utf8.UTFMax)] // a character at the limit stays whole
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// cleanAddress is an address as records have it, without a zone; "" when s is
// none.
func cleanAddress(s string) string {
	if s == "" {
		return ""
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return ""
	}
	if plain := addr.Unmap().WithZone(""); plain != addr {
		return plain.String()
	}
	return s
}

// sent is a header of a request, by its canonical name, which Header.Get would
// make anew.
func sent(r *http.Request, name string) string {
	if values := r.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// peer is the address at the other end of a request's connection.
func peer(r *http.Request) string {
	host := r.RemoteAddr
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// isModuleCode says whether s is 1 to 32 upper-case letters and digits, a
// letter first.
func isModuleCode(s string) bool {
	if s == "" || len(s) > maxModuleCode || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
