package source

import (
	"context"
	"net/http"
	"sync"
)

// login keeps the Authorization that Options.Login gave last.
type login struct {
	renewal func(ctx context.Context, refused http.Header) (string, error)
	// turn holds one token: whoever has it may call renewal.
	turn chan struct{}

	mu            sync.Mutex
	authorization string
}

func newLogin(renewal func(ctx context.Context, refused http.Header) (string, error)) *login {
	if renewal == nil {
		return nil
	}
	l := &login{renewal: renewal, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// current is the Authorization to send, empty before the first login.
func (l *login) current() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.authorization
}

// renew logs in after used was refused. Connections that were refused together log in once.
func (l *login) renew(ctx context.Context, used string, refused http.Header) (string, error) {
	select {
	case <-l.turn:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { l.turn <- struct{}{} }()
	if now := l.current(); now != used {
		return now, nil
	}
	authorization, err := l.renewal(ctx, refused)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.authorization = authorization
	return authorization, nil
}
