// Package main is a CNI plugin that runs last in the chain of the test cluster.
// It tells the network policy engine the address of each new pod and waits until
// the pod's policies are enforced. Thus not even the first packet escapes them.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// limit is how long a pod may wait; the kubelet then tries again.
const limit = 15 * time.Second

func main() {
	if err := run(os.Getenv, os.Stdin, os.Stdout); err != nil {
		// CNI specification 1.0.0, section 5: an error is JSON on standard output.
		failure := map[string]any{"cniVersion": "1.0.0", "code": 11, "msg": err.Error()}
		_ = json.NewEncoder(os.Stdout).Encode(failure) // the exit code tells as well
		os.Exit(1)
	}
}

// request is what the runtime sends.
type request struct {
	Socket string          `json:"socket"`
	Result json.RawMessage `json:"prevResult"`
}

func run(getenv func(string) string, stdin io.Reader, stdout io.Writer) error {
	switch getenv("CNI_COMMAND") {
	case "ADD":
		var r request
		if err := json.NewDecoder(stdin).Decode(&r); err != nil {
			return fmt.Errorf("reading the request: %w", err)
		}
		if err := announce(r, podUID(getenv("CNI_ARGS"))); err != nil {
			return err
		}
		_, err := stdout.Write(r.Result)
		return err
	case "VERSION":
		_, err := io.WriteString(stdout, `{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}`)
		return err
	default: // the engine sees by itself that a pod is gone
		return nil
	}
}

// podUID finds the pod's UID among arguments of the form NAME=value;NAME=value.
func podUID(arguments string) string {
	for argument := range strings.SplitSeq(arguments, ";") {
		if uid, found := strings.CutPrefix(argument, "K8S_POD_UID="); found {
			return uid
		}
	}
	return ""
}

// announce tells the engine and waits for its answer.
func announce(r request, uid string) error {
	address, err := addressOf(r.Result)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"uid": uid, "address": address})
	if err != nil {
		return fmt.Errorf("encoding the announcement: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	message, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://netpol/pods", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("announcing a pod: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.Socket)
	}}}
	answer, err := client.Do(message)
	if err != nil {
		return fmt.Errorf("announcing a pod to the network policy engine: %w", err)
	}
	defer func() { _ = answer.Body.Close() }() // only read
	if answer.StatusCode != http.StatusNoContent {
		reason, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		return errors.Join(fmt.Errorf("the network policy engine refuses the pod: %s: %s", answer.Status, bytes.TrimSpace(reason)), err)
	}
	return nil
}

// addressOf returns the pod's address from the result of the plugin before.
func addressOf(result json.RawMessage) (string, error) {
	var parsed struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(result, &parsed); err != nil {
		return "", fmt.Errorf("reading the result of the plugin before: %w", err)
	}
	if len(parsed.IPs) == 0 {
		return "", errors.New("the plugin before gave the pod no address")
	}
	address, _, _ := strings.Cut(parsed.IPs[0].Address, "/")
	return address, nil
}
