package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gild-project/gild/test/cluster/leftover"
)

// up starts the cluster. It repairs one that runs in part, and first clears away
// what is left of one that was killed.
func (c *cluster) up(ctx context.Context) error {
	if err := needRoot("up"); err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	start := time.Now()
	if err := c.buildLocked(ctx, groups()); err != nil {
		return err
	}
	if err := c.installPackages(ctx, runPackages()); err != nil {
		return err
	}
	if !c.anyAlive() {
		if err := c.clear(ctx); err != nil {
			return err
		}
		if err := os.RemoveAll(c.path("log")); err != nil {
			return fmt.Errorf("removing old logs: %w", err)
		}
		if err := unused(); err != nil {
			return err
		}
	}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	if err := c.startComponents(ctx); err != nil {
		return err
	}
	if err := c.steps.do("node", func() (string, error) { return nodeName + " is Ready", c.settle(ctx) }); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "the cluster is up after %.1f s; use it with\nexport KUBECONFIG=%s PATH=%s:$PATH\n",
		time.Since(start).Seconds(), c.kubeconfig(), c.path("bin"))
	return err
}

func (c *cluster) anyAlive() bool {
	for _, p := range c.components() {
		if c.daemons.Alive(p.name) {
			return true
		}
	}
	return false
}

// unused refuses addresses that belong to another program.
func unused() error {
	for address, name := range addresses() {
		host, _, _ := strings.Cut(address, ":")
		if host == nodeIP {
			continue // the bridge that has it does not exist yet
		}
		if !free(address) {
			return fmt.Errorf("another program of this machine listens on %s, which %s needs: stop it first", address, name)
		}
	}
	return nil
}

// prepare makes what the components find when they start.
func (c *cluster) prepare(ctx context.Context) error {
	if err := c.makeCertificates(apiAddress); err != nil {
		return err
	}
	if err := c.writeConfig(); err != nil {
		return err
	}
	if err := c.linkPrograms(); err != nil {
		return err
	}
	if err := c.networkUp(ctx); err != nil {
		return err
	}
	if err := c.shareBlocks(ctx); err != nil {
		return err
	}
	parents, err := leftover.GroupParents()
	if err != nil {
		return err
	}
	for _, parent := range parents {
		if err := os.Mkdir(filepath.Join(parent, c.id()), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("making the control group of the pods: %w", err)
		}
	}
	return nil
}

// startComponents starts what does not run, in order, waiting for each where the
// next one needs it.
func (c *cluster) startComponents(ctx context.Context) error {
	for _, p := range c.components() {
		if c.daemons.Alive(p.name) {
			continue
		}
		err := c.steps.do("started", func() (string, error) {
			if err := c.startOne(ctx, p); err != nil {
				return "", err
			}
			if p.name == "registry" {
				return p.name, c.pushOwnImages(ctx)
			}
			return p.name, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle applies the manifests and waits until pods can run, find each other by
// name and have volumes.
func (c *cluster) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := c.kubectl(ctx, "apply", "--server-side", "--force-conflicts", "--filename="+c.path("manifests")); err != nil {
		return c.explain("kube-apiserver", err)
	}
	for _, condition := range []struct{ component, args string }{
		{"kubelet", "wait node/" + nodeName + " --for=create --timeout=120s"},
		{"kubelet", "wait node/" + nodeName + " --for=condition=Ready --timeout=120s"},
		{"kube-controller-manager", "wait serviceaccount/default --for=create --timeout=60s"},
		{"kubelet", "wait csinode/" + nodeName + " --for=jsonpath=" + registered(driverName) + " --timeout=120s"},
		{"kubelet", "wait csinode/" + nodeName + " --for=jsonpath=" + registered(plainDriverName) + " --timeout=120s"},
		{"kubelet", "rollout status deployment/dns --namespace=kube-system --timeout=120s"},
	} {
		if err := c.kubectl(ctx, strings.Fields(condition.args)...); err != nil {
			return c.explain(condition.component, err)
		}
	}
	return c.stillAlive()
}

// registered is the condition that the kubelet knows a CSI driver.
func registered(driver string) string {
	return `{.spec.drivers[?(@.name=="` + driver + `")].name}=` + driver
}

// stillAlive finds a component that started and then ended.
func (c *cluster) stillAlive() error {
	for _, p := range c.components() {
		if !c.daemons.Alive(p.name) {
			return c.explain(p.name, fmt.Errorf("%s ended", p.name))
		}
	}
	return nil
}
