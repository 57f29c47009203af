package query

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are those in front of the service. Its tags are flags; see auditrail
// --help.
type Proxies struct {
	// Trusted proxies tell the address of their client in X-Forwarded-For. None,
	// the default, means that the connection's own peer is the client.
	Trusted []Network `name:"trusted-proxies" help:"Addresses and networks of the proxies in front of this service, such as 10.0.0.7,fd00::/8. Where a connection comes from one, the client is the last address in X-Forwarded-For that is none of them. None: that header is not believed." placeholder:"NETWORK,..."`
}

// Network is a network, or one address, of a flag.
type Network struct{ netip.Prefix }

// UnmarshalText reads 10.0.0.0/8 or 10.1.2.3, of IPv4 or IPv6. IPv4 mapped into
// IPv6 is IPv4.
func (n *Network) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("%q is neither an address nor a network such as 10.0.0.7 or fd00::/8", s)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if p.Bits() == 0 {
		return fmt.Errorf("%s is every address, and who may say where a call comes from must be known: name the proxies", s)
	}
	n.Prefix = p.Masked()
	return nil
}

// maxForwarded is longer than any address with port and zone.
const maxForwarded = 100

// clientAddress is where a request comes from, "" when that is no address: the
// connection's peer, or the client that trusted proxies tell of. Each of them
// appends the address of its own client to X-Forwarded-For, so that it is read
// from its end, up to the first address that is no trusted proxy: anybody can
// have sent what stands before that. What is no address ends it, too.
func (p Proxies) clientAddress(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	client := peer.Addr().Unmap().WithZone("")
	if !p.trust(client) {
		return client.String()
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		told, ok := forwarded(hop)
		if !ok {
			break
		}
		if client = told; !p.trust(client) {
			break
		}
	}
	return client.String()
}

func (p Proxies) trust(a netip.Addr) bool {
	return slices.ContainsFunc(p.Trusted, func(n Network) bool { return n.Contains(a) })
}

// forwarded reads an address of X-Forwarded-For. Some proxies write a port
// behind it, and brackets around one of IPv6.
func forwarded(s string) (netip.Addr, bool) {
	if s = strings.TrimSpace(s); len(s) > maxForwarded {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		if strings.HasSuffix(s, "]") {
			s += ":0"
		}
		at, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		a = at.Addr()
	}
	a = a.Unmap().WithZone("")
	return a, !a.IsUnspecified()
}
