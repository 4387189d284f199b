package main

import "fmt"

// status prints a line for each component.
func (c *cluster) status() error {
	missing := 0
	for _, p := range c.components() {
		state := "down"
		if pid, alive := c.daemons.PID(p.name); alive {
			state = fmt.Sprintf("process %d", pid)
		} else {
			missing++
		}
		if _, err := fmt.Fprintf(c.out, "%-24s %-16s %s\n", p.name, state, c.daemons.Log(p.name)); err != nil {
			return err
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d processes are down: up starts them", missing)
	}
	_, err := fmt.Fprintf(c.out, "export KUBECONFIG=%s PATH=%s:$PATH\n", c.kubeconfig(), c.path("bin"))
	return err
}
