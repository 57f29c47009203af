package apicall

import "time"

// places are the calls of one key that run, in the order in which their leases
// end. As every lease is LeaseTimeout long, a renewed one goes to the end. The
// zero value is empty.
type places struct {
	byCall      map[string]*place
	first, last *place
	spare       *place // one that is not used, for the next call
}

type place struct {
	callID     string
	ends       time.Duration
	prev, next *place
}

func (ps *places) len() int { return len(ps.byCall) }

func (ps *places) has(callID string) bool { return ps.byCall[callID] != nil }

// add gives a call a place until ends. It must not have one.
func (ps *places) add(callID string, ends time.Duration) {
	p := ps.spare
	if ps.spare = nil; p == nil {
		p = new(place)
	}
	p.callID, p.ends = callID, ends
	if ps.byCall == nil {
		ps.byCall = map[string]*place{}
	}
	ps.byCall[callID] = p
	ps.push(p)
}

// remove frees the place of a call, if it has one.
func (ps *places) remove(callID string) {
	p := ps.byCall[callID]
	if p == nil {
		return
	}
	delete(ps.byCall, callID)
	ps.unlink(p)
	p.callID = ""
	ps.spare = p
}

// renew lets the place of a call, if it has one, hold until ends.
func (ps *places) renew(callID string, ends time.Duration) {
	if p := ps.byCall[callID]; p != nil {
		ps.unlink(p)
		p.ends = ends
		ps.push(p)
	}
}

// expire frees the places whose leases have ended.
func (ps *places) expire(now time.Duration) {
	for ps.first != nil && ps.first.ends <= now {
		ps.remove(ps.first.callID)
	}
}

func (ps *places) push(p *place) {
	p.prev, p.next = ps.last, nil
	if ps.last != nil {
		ps.last.next = p
	} else {
		ps.first = p
	}
	ps.last = p
}

func (ps *places) unlink(p *place) {
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		ps.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		ps.last = p.prev
	}
	p.prev, p.next = nil, nil
}
