package appstatsd

import "iter"

// pool is some reports in the order in which they came. A report keeps its own place in it, so adding and taking out cost
// nothing but a few pointers, and no memory.
type pool struct {
	first, last *report
	length      int
	// placeOf says which of a report's places is that in this pool; a report can be in one pool for each.
	placeOf func(*report) *place
}

// place is where in a pool a report is.
type place struct {
	in         *pool
	prev, next *report
}

// put adds a report at the end; one that is in a pool already stays where it is.
func (p *pool) put(r *report) {
	at := p.placeOf(r)
	if at.in != nil {
		return
	}
	*at = place{in: p, prev: p.last}
	if p.last == nil {
		p.first = r
	} else {
		p.placeOf(p.last).next = r
	}
	p.last = r
	p.length++
}

// remove takes a report out, if it is in the pool.
func (p *pool) remove(r *report) {
	at := p.placeOf(r)
	if at.in != p {
		return
	}
	if at.prev == nil {
		p.first = at.next
	} else {
		p.placeOf(at.prev).next = at.next
	}
	if at.next == nil {
		p.last = at.prev
	} else {
		p.placeOf(at.next).prev = at.prev
	}
	*at = place{}
	p.length--
}

func (p *pool) has(r *report) bool { return p.placeOf(r).in == p }

// all goes over the reports; the one that it is at may be removed meanwhile.
func (p *pool) all() iter.Seq[*report] {
	return func(yield func(*report) bool) {
		for r := p.first; r != nil; {
			next := p.placeOf(r).next
			if !yield(r) {
				return
			}
			r = next
		}
	}
}
