package main

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// primePrefix begins the name of PVC'; the claim's UID follows.
	primePrefix = "prime-"
	// finalizerEnd ends the library's finalizer of a claim.
	finalizerEnd = "/populate-target-protection"
)

// moments are when things happened to one claim, as a watch saw them.
type moments struct {
	// measured is false of a claim of whose PVC' alone there was something to see.
	measured bool
	// made and provisioned are when PVC' was there, and when it was bound.
	made, provisioned, bound time.Time
	// cleared is when PVC' was gone, and the library had let go of the bound claim.
	cleared            time.Time
	primeIsGone, letGo bool
}

// timeline follows claims that are made together.
type timeline struct {
	begun  time.Time
	claims map[types.UID]*moments
}

func newTimeline(begun time.Time) *timeline {
	return &timeline{begun: begun, claims: map[types.UID]*moments{}}
}

// observe takes note of what a watch saw.
func (t *timeline) observe(kind watch.EventType, claim *corev1.PersistentVolumeClaim, at time.Time) {
	uid, prime := strings.CutPrefix(claim.Name, primePrefix)
	if !prime {
		if claim.Namespace != namespace || claim.Labels[runLabel] == "" {
			return
		}
		uid = string(claim.UID)
	}
	m := t.claims[types.UID(uid)]
	if m == nil {
		m = &moments{}
		t.claims[types.UID(uid)] = m
	}
	first := func(when *time.Time, is bool) {
		if is && when.IsZero() {
			*when = at
		}
	}
	isBound := claim.Status.Phase == corev1.ClaimBound
	if prime {
		first(&m.made, true)
		first(&m.provisioned, isBound)
		m.primeIsGone = kind == watch.Deleted
	} else {
		m.measured = true
		first(&m.bound, isBound)
		m.letGo = isBound && !slices.ContainsFunc(claim.Finalizers, func(f string) bool { return strings.HasSuffix(f, finalizerEnd) })
	}
	first(&m.cleared, m.primeIsGone && m.letGo)
}

func (t *timeline) measured() []*moments {
	var all []*moments
	for _, m := range t.claims {
		if m.measured {
			all = append(all, m)
		}
	}
	return all
}

// count is how many claims something has happened to.
func (t *timeline) count(when func(*moments) time.Time) int {
	n := 0
	for _, m := range t.measured() {
		if !when(m).IsZero() {
			n++
		}
	}
	return n
}

func bound(m *moments) time.Time   { return m.bound }
func cleared(m *moments) time.Time { return m.cleared }

// last is seconds from the beginning to the last of them.
func (t *timeline) last(when func(*moments) time.Time) float64 {
	var last time.Duration
	for _, m := range t.measured() {
		last = max(last, when(m).Sub(t.begun))
	}
	return last.Seconds()
}

// mean is the seconds between two moments, of the average claim.
func (t *timeline) mean(from, to func(*moments) time.Time) float64 {
	var sum time.Duration
	all := t.measured()
	for _, m := range all {
		sum += to(m).Sub(from(m))
	}
	return sum.Seconds() / float64(max(len(all), 1))
}
