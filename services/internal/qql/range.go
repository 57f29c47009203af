package qql

import (
	"math"
	"net/netip"
	"time"
)

// Instants returns the first and last millisecond of a Range of dates, taking
// now for now; first is after last when nothing lies in it.
func (r Range) Instants(now time.Time) (first, last int64) {
	first, last = math.MinInt64, math.MaxInt64
	if r.Low != nil {
		from, to := r.Low.Value.(Date).Span(now)
		if first = from; r.Low.Open {
			first = to + 1
		}
	}
	if r.High != nil {
		from, to := r.High.Value.(Date).Span(now)
		if last = to; r.High.Open {
			last = from - 1
		}
	}
	return first, last
}

// Addresses returns the first and last address of a Range of addresses, which
// are of one family: an end of IPv4 makes a range of IPv4 addresses, whether the
// other end is open or not. ok is false when nothing lies in it.
func (r Range) Addresses() (first, last netip.Addr, ok bool) {
	if r.Low != nil {
		from, to := addresses(r.Low.Value)
		if first = from; r.Low.Open {
			first = to.Next()
		}
	}
	if r.High != nil {
		from, to := addresses(r.High.Value)
		if last = to; r.High.Open {
			last = from.Prev()
		}
	}
	switch {
	case r.Low == nil && r.High != nil && last.IsValid():
		first, _ = addresses(Network(netip.PrefixFrom(last, 0).Masked()))
	case r.High == nil && r.Low != nil && first.IsValid():
		_, last = addresses(Network(netip.PrefixFrom(first, 0).Masked()))
	}
	ok = first.IsValid() && last.IsValid() && first.BitLen() == last.BitLen() && first.Compare(last) <= 0
	return first, last, ok
}

// addresses are the first and last address of an address or a network.
func addresses(v Value) (first, last netip.Addr) {
	n, ok := v.(Network)
	if !ok {
		a := netip.Addr(v.(Addr))
		return a, a
	}
	p := netip.Prefix(n)
	first = p.Addr()
	b := first.AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ = netip.AddrFromSlice(b)
	return first, last
}
