package audit

// scanNumber returns the index after the JSON number at p[i], or -1 when it is
// none.
func scanNumber(p []byte, i int) int {
	if i < len(p) && p[i] == '-' {
		i++
	}
	switch {
	case i >= len(p):
		return -1
	case p[i] == '0':
		i++
	default:
		if i = digits(p, i); i < 0 {
			return -1
		}
	}
	if i < len(p) && p[i] == '.' {
		if i = digits(p, i+1); i < 0 {
			return -1
		}
	}
	if i < len(p) && p[i]|0x20 == 'e' {
		i++
		if i < len(p) && (p[i] == '+' || p[i] == '-') {
			i++
		}
		i = digits(p, i)
	}
	return i
}

// digits returns the index after one or more digits, -1 when there is none.
func digits(p []byte, i int) int {
	start := i
	for i < len(p) && p[i]-'0' <= 9 {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// integerValue reads a JSON number (already checked) that may be written with
// a fraction or an exponent, as JSON Schema allows for integers. whole is
// false when its value is no integer; fits is false when it is one beyond
// int64.
func integerValue(num []byte) (v int64, whole, fits bool) {
	negative := num[0] == '-'
	if negative {
		num = num[1:]
	}
	// The value is 0.d1d2d3... * 10^point, with d1 and the last d not zero.
	var (
		sig      [20]byte // the digits that count; more can not fit
		n        int      // how many there are, also beyond len(sig)
		last     int      // n at the last digit that is not zero
		point    int      // digits before the decimal point
		seenDot  bool
		exponent int
	)
	for i, c := range num {
		if c == '.' {
			seenDot = true
			continue
		}
		if c|0x20 == 'e' {
			exponent = smallInt(num[i+1:])
			break
		}
		if n == 0 && c == '0' {
			if seenDot {
				point--
			}
			continue
		}
		if n < len(sig) {
			sig[n] = c - '0'
		}
		n++
		if c != '0' {
			last = n
		}
		if !seenDot {
			point++
		}
	}
	if last == 0 {
		return 0, true, true
	}
	point += exponent
	switch {
	case point < last:
		return 0, false, true
	case point > 19:
		return 0, true, false
	}
	var u uint64 // point <= 19, and 10^19 - 1 fits
	for i := range point {
		u *= 10
		if i < last {
			u += uint64(sig[i])
		}
	}
	switch {
	case negative && u <= 1<<63:
		return -int64(u), true, true
	case !negative && u < 1<<63:
		return int64(u), true, true
	}
	return 0, true, false
}

// smallInt reads an exponent, held to what can matter.
func smallInt(p []byte) int {
	const far = 1 << 20 // beyond the digits of any record
	negative := p[0] == '-'
	if negative || p[0] == '+' {
		p = p[1:]
	}
	v := 0
	for _, c := range p {
		if v = v*10 + int(c-'0'); v > far {
			v = far
		}
	}
	if negative {
		return -v
	}
	return v
}
