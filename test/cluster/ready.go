package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	// startLimit is how long a component may take to do its work. A loaded
	// two-core machine needs about 20 s for the slowest.
	startLimit = 3 * time.Minute
	lookAgain  = 200 * time.Millisecond
	logTail    = 15 // lines
)

// await waits until ready succeeds, or says why the component does not come up.
func (c *cluster) await(ctx context.Context, p component) error {
	if p.ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		if !c.daemons.Alive(p.name) {
			return c.explain(p.name, fmt.Errorf("%s ended", p.name))
		}
		select {
		case <-ctx.Done():
			return c.explain(p.name, fmt.Errorf("%s does not come up: %w", p.name, err))
		case <-tick.C:
		}
	}
}

// explain adds the end of the component's log to an error.
func (c *cluster) explain(name string, err error) error {
	content, readErr := os.ReadFile(c.daemons.Log(name))
	if readErr != nil {
		return err
	}
	return fmt.Errorf("%w; the end of its log, %s:\n%s", err, c.daemons.Log(name), lastLines(string(content), logTail))
}

// answersHTTP succeeds when the URL answers 200.
func answersHTTP(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		if err := response.Body.Close(); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("asking %s: %s", url, response.Status)
		}
		return nil
	}
}

// acceptsUnix succeeds when something listens on the socket.
func acceptsUnix(socket string) func(context.Context) error {
	return func(ctx context.Context) error {
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return connection.Close()
	}
}

// apiServerReady asks the API server itself.
func (c *cluster) apiServerReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return c.kubectl(ctx, "get", "--raw=/readyz")
}

// kubectl runs kubectl as the administrator.
func (c *cluster) kubectl(ctx context.Context, args ...string) error {
	path, err := c.binary("kubectl")
	if err != nil {
		return err
	}
	_, err = tool{path: path, args: append([]string{"--kubeconfig=" + c.kubeconfig()}, args...)}.output(ctx)
	return err
}
