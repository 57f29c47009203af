package query

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// trusting reads the flag.
func trusting(t testing.TB, list string) (Proxies, error) {
	t.Helper()
	var p Proxies
	flags, err := kong.New(&p)
	if err != nil {
		t.Fatal(err)
	}
	_, err = flags.Parse([]string{"--trusted-proxies", list})
	return p, err
}

func TestTheClientOfTrustedProxies(t *testing.T) {
	const lb, inner, client = "10.0.0.7:443", "[fd00::1%eth0]:443", "198.51.100.7"
	for _, c := range []struct {
		name, peer string
		header     []string // X-Forwarded-For
		want       string
	}{
		{"no header", lb, nil, "10.0.0.7"},
		{"not trusted", "192.0.2.9:1", []string{client}, "192.0.2.9"},
		{"not trusted, telling of a trusted one", "192.0.2.9:1", []string{client + ", 10.0.0.7"}, "192.0.2.9"},
		{"no address", "@", []string{client}, ""},
		{"the client", lb, []string{client}, client},
		{"mapped into IPv6", "[::ffff:10.0.0.7]:443", []string{"::ffff:198.51.100.7"}, client},
		{"what the client sent", lb, []string{"203.0.113.1, 10.0.0.9, " + client}, client},
		{"two proxies", lb, []string{"203.0.113.1," + client + " ,\tfd00::2"}, client},
		{"a proxy with a zone", inner, []string{client + ",10.0.0.9"}, client},
		{"several lines", lb, []string{"203.0.113.1", client, "10.0.0.9,fd00::2"}, client},
		{"proxies alone", lb, []string{"10.0.0.9, fd00::2"}, "10.0.0.9"},
		{"IPv6", lb, []string{"2001:DB8::7"}, "2001:db8::7"},
		{"a port", lb, []string{client + ":5060"}, client},
		{"IPv6 with a port", lb, []string{"[2001:db8::7]:5060"}, "2001:db8::7"},
		{"in brackets", lb, []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"a zone", lb, []string{"fe80::1%eth0"}, "fe80::1"},
		{"a zone that is none", lb, []string{"fe80::1%'; DROP TABLE x"}, "fe80::1"},
		{"a proxy by its zone", lb, []string{client + ", fd00::2%1"}, client},
		{"unknown", lb, []string{"unknown"}, "10.0.0.7"},
		{"garbage before the client", lb, []string{"\x00\xff<script>, " + client}, client},
		{"garbage behind a proxy", lb, []string{client + ", x, 10.0.0.9"}, "10.0.0.9"},
		{"an empty place", lb, []string{client + ", , 10.0.0.9"}, "10.0.0.9"},
		{"an empty line", lb, []string{client, ""}, "10.0.0.7"},
		{"commas", lb, []string{",,,"}, "10.0.0.7"},
		{"an address of nobody", lb, []string{"::"}, "10.0.0.7"},
		{"another address of nobody", lb, []string{"0.0.0.0:80"}, "10.0.0.7"},
		{"a network", lb, []string{"198.51.100.0/24"}, "10.0.0.7"},
		{"a name", lb, []string{"example.com:80"}, "10.0.0.7"},
		{"a port beyond 16 bits", lb, []string{client + ":70000"}, "10.0.0.7"},
		{"brackets around nothing", lb, []string{"[]"}, "10.0.0.7"},
		{"brackets around IPv4", lb, []string{"[198.51.100.7]"}, "10.0.0.7"},
		{"zeros before digits", lb, []string{"198.051.100.007"}, "10.0.0.7"},
		{"Forwarded's form", lb, []string{"for=198.51.100.7"}, "10.0.0.7"},
		{"huge", lb, []string{strings.Repeat("9", 1<<20)}, "10.0.0.7"},
		{"a huge zone", lb, []string{"fe80::1%" + strings.Repeat("z", 1<<20)}, "10.0.0.7"},
		{"many", lb, []string{strings.Repeat("203.0.113.1,", 1<<16) + client}, client},
		{"many proxies", lb, []string{client + strings.Repeat(",10.0.0.9", 1<<16)}, client},
		{"many lines", lb, append([]string{client}, strings.Split(strings.Repeat("10.0.0.9,", 1<<12)+"fd00::2", ",")...), client},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := trusting(t, "10.0.0.0/24, fd00::/8")
			if err != nil {
				t.Fatal(err)
			}
			r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.header, "Forwarded": {"for=203.0.113.9"}, "X-Real-Ip": {"203.0.113.9"}}}
			if got := p.clientAddress(r); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if host, err := netip.ParseAddrPort(c.peer); err == nil {
				if got, want := (Proxies{}).clientAddress(r), host.Addr().Unmap().WithZone("").String(); got != want {
					t.Errorf("without trusted proxies %s, want %s", got, want)
				}
			}
		})
	}
}

// FuzzForwardedFor: whatever stands there, the client is an address, and the
// proxy's own where nothing but rubbish came from it.
func FuzzForwardedFor(f *testing.F) {
	for _, header := range []string{"", "198.51.100.7", "[::1%z]:1, ::ffff:10.0.0.1", "a,10.0.0.2", "[", "]", ":", "%", "[]:0"} {
		f.Add(header)
	}
	p, err := trusting(f, "10.0.0.0/24")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := &http.Request{RemoteAddr: "10.0.0.7:1", Header: http.Header{"X-Forwarded-For": {header}}}
		a, err := netip.ParseAddr(p.clientAddress(r))
		if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() {
			t.Errorf("%q: %v %v", header, a, err)
		}
		r.Header.Add("X-Forwarded-For", "198.51.100.7")
		if got := p.clientAddress(r); got != "198.51.100.7" {
			t.Errorf("%q before the client makes it %s", header, got)
		}
	})
}

func TestTrustedProxiesAreNetworksOrAddresses(t *testing.T) {
	p, err := trusting(t, "10.1.2.3/8,192.0.2.9, ::ffff:172.16.0.0/108,2001:db8::1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.0.0.0/8", "192.0.2.9/32", "172.16.0.0/12", "2001:db8::1/128"} {
		if got := p.Trusted[0].String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		p.Trusted = p.Trusted[1:]
	}
	for _, wrong := range []string{"lb.internal", "10.0.0.1:80", "10.0.0.0/33", "fe80::1%eth0", "10.0.0.1,,10.0.0.2", "10.0.0", "0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96"} {
		if p, err := trusting(t, wrong); err == nil || !strings.Contains(err.Error(), "--trusted-proxies") {
			t.Errorf("%s: %v, %v", wrong, p, err)
		}
	}
}

// TestTheProxysClientIsOnRecord: in the product's own audit events and in the
// list of API calls.
func TestTheProxysClientIsOnRecord(t *testing.T) {
	b := newLimitedBench(t, away(t), nil, func(c *Config) {
		p, err := trusting(t, "192.0.2.1") // the peer of a test's requests
		if err != nil {
			t.Fatal(err)
		}
		c.Proxies = p
	})
	header := []string{"X-Forwarded-For", "203.0.113.1, 198.51.100.7"}
	if w := b.do(t, &standard, "POST", validatePath, `{"qql":"action: a"}`, header...); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	if w := b.do(t, &standard, "PUT", "/audit-log/admin/settings", `{"auditSearches": true}`, header...); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	var from []string
	for _, c := range b.told(t, 4) {
		from = append(from, c.SourceIP)
	}
	for _, e := range b.audited(t, 2) {
		from = append(from, e.SourceIP)
	}
	if got := strings.Join(from, " "); got != strings.TrimSpace(strings.Repeat("198.51.100.7 ", 6)) {
		t.Errorf("from %s", got)
	}
}
