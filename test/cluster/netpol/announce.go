package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	// knownWithin is how long the watch may take to show a pod the kubelet starts.
	knownWithin = 10 * time.Second
	lookAgain   = 20 * time.Millisecond
)

// serve hears of new pods on a unix socket until ctx ends. A request is answered
// once the table enforces the pod's policies, so that no process of the pod runs
// before.
func (e *enforcer) serve(ctx context.Context, socket string) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing an old socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	handler := http.NewServeMux()
	handler.HandleFunc("POST /pods", e.hear)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: knownWithin}
	go func() {
		<-ctx.Done()
		_ = server.Close() // whoever waits for an answer asks again
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

func (e *enforcer) hear(w http.ResponseWriter, r *http.Request) {
	var a announcement
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := e.welcome(r.Context(), a); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// welcome remembers the address and waits until the table knows the pod.
func (e *enforcer) welcome(ctx context.Context, a announcement) error {
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	e.remember(a)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		if err := e.apply(ctx); err != nil {
			return err
		}
		if e.knows(a.UID) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting to see pod %s: %w", a.UID, ctx.Err())
		case <-tick.C:
		}
	}
}

func (e *enforcer) remember(a announcement) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	for uid, other := range e.announced {
		if other.Address == a.Address {
			delete(e.announced, uid) // its pod has ended: addresses are given once at a time
		}
	}
	e.announced[a.UID] = a
}

func (e *enforcer) knows(uid string) bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.known[uid]
}
