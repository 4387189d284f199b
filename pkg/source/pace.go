package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// growBytes is what must come without a fault before one connection more is tried again. It
// doubles with every refusal, so that a server that serves only one is not asked for ever.
const growBytes = 64 << 20

// pace is how fast and how often one image may be asked for: how many connections are open,
// which faults are tried again, and when. All requests for the image pass through try.
//
// Tries and waits count for the image and not for a connection: four connections that fail
// together are one fault, and one answer "not now" is meant for all four.
type pace struct {
	options Options
	// telling keeps notices one after the other.
	telling sync.Mutex

	mu sync.Mutex
	// changed is closed and replaced when somebody who waits should look again.
	changed chan struct{}
	// busy counts the turns that are taken, of limit now and most at best; streaming those whose
	// bytes flow.
	busy, streaming, limit, most int
	// mostTries is after how many faults without progress the source is given up.
	mostTries int
	// round counts faults. A turn of an older round saw the fault that is counted already.
	round int
	// tries counts faults in a row without progress; received bytes were mark at the last one.
	tries          int
	received, mark int64
	// grow is what must come after shrunk before limit grows again.
	grow, shrunk int64
	// until is when the next request may start; sleeping tells that somebody waits for it.
	until    time.Time
	sleeping bool
}

// turn is the right to have one request open.
type turn struct {
	pace     *pace
	round    int
	received int64
	answered bool
}

func newPace(o Options) *pace {
	return &pace{options: o, changed: make(chan struct{}), limit: o.Connections, most: o.Connections, grow: growBytes, mostTries: o.OpenTries}
}

// try calls f, in its turn, until it succeeds or fails for good.
func (p *pace) try(ctx context.Context, f func(t *turn) error) error {
	for {
		t, err := p.enter(ctx)
		if err != nil {
			return err
		}
		err = f(t)
		p.leave(t)
		if err == nil {
			return nil
		}
		if err := p.fault(t, err); err != nil {
			return err
		}
	}
}

// enter waits for a pause to end and for a free connection.
func (p *pace) enter(ctx context.Context) (*turn, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p.mu.Lock()
		pause := p.until.Sub(p.options.Clock.Now())
		switch {
		case pause > 0 && !p.sleeping:
			p.sleeping = true
			p.mu.Unlock()
			err := p.options.Clock.Sleep(ctx, pause)
			p.mu.Lock()
			p.sleeping = false
			p.wake()
			p.mu.Unlock()
			if err != nil {
				return nil, err
			}
			continue
		case pause <= 0 && p.busy < p.limit:
			p.busy++
			t := &turn{pace: p, round: p.round, received: p.received}
			p.mu.Unlock()
			return t, nil
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// wake needs mu.
func (p *pace) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pace) leave(t *turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	if t.answered {
		p.streaming--
	}
	p.wake()
}

// flows tells that the answer is a good one: bytes follow.
func (t *turn) flows() {
	t.pace.mu.Lock()
	defer t.pace.mu.Unlock()
	t.answered = true
	t.pace.streaming++
}

// opened gives the faults to come all tries, whatever Open had.
func (p *pace) opened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mostTries = maxTries
}

// came counts bytes of the image.
func (p *pace) came(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received += int64(n)
	if p.limit < p.most && p.received-p.shrunk >= p.grow {
		p.limit++
		p.shrunk = p.received
		p.wake()
	}
}

// fault judges the error that ended a turn: nil means that another try is due, which enter
// makes wait; else err is final.
func (p *pace) fault(t *turn, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.startOver {
		return err
	}
	p.mu.Lock()
	now := p.options.Clock.Now()
	if t.round != p.round {
		wait, again := nextTry(e, 1, p.mostTries, 0)
		if e.retryAfter > 0 && again {
			p.until = later(p.until, now.Add(wait))
		}
		p.mu.Unlock()
		if !again {
			return err
		}
		return nil
	}
	p.round++
	if p.received-p.mark >= progressBytes {
		p.tries = 0
	}
	p.mark = p.received
	p.tries++
	wait, again := nextTry(e, p.tries, p.mostTries, p.options.Jitter())
	if !again {
		p.mu.Unlock()
		return err
	}
	p.shrink(t)
	p.until = later(p.until, now.Add(wait))
	p.mu.Unlock()
	p.telling.Lock()
	defer p.telling.Unlock()
	p.options.Notice(fmt.Sprintf("%s: %v; next try in %s", e.Reason(), err, wait.Round(100*time.Millisecond)))
	return nil
}

// aloneTries is after how many faults without progress one connection is all that is tried.
const aloneTries = 3

// shrink lowers the number of connections when the fault looks like the server's limit: a
// request without an answer while others were served, or faults again and again. It needs mu.
func (p *pace) shrink(t *turn) {
	limit := p.limit
	switch {
	case p.tries >= aloneTries:
		limit = 1
	case !t.answered && (p.streaming > 0 || p.received > t.received):
		limit = max(1, min(limit-1, p.streaming))
	default:
		return
	}
	if limit < p.limit {
		p.limit = limit
		p.grow *= 2
	}
	p.shrunk = p.received
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
