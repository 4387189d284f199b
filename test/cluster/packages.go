package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// debianPackage is a package of Debian and the reason it is needed.
type debianPackage struct{ name, why string }

func buildPackages() []debianPackage {
	return []debianPackage{
		{"gcc", "compiles runc's C part"},
		{"libc6-dev", "compiles runc's C part"},
		{"libseccomp-dev", "runc's RuntimeDefault seccomp profile"},
		{"pkg-config", "tells runc's build where libseccomp is"},
	}
}

func runPackages() []debianPackage {
	return []debianPackage{
		{"iproute2", "ip: the bridge of the pods"},
		{"nftables", "nft: services, network policies and masquerading"},
		{"containernetworking-plugins", "the pods' network interfaces"},
		{"e2fsprogs", "mkfs.ext4 and resize2fs: volumes"},
		{"mount", "losetup: the kubelet's raw block volumes"},
		{"kmod", "modprobe: kernel modules that are not loaded yet"},
	}
}

// installPackages installs what is missing and says what and why. It does
// nothing on a machine that has everything.
func (c *cluster) installPackages(ctx context.Context, wanted []debianPackage) error {
	missing := slices.DeleteFunc(slices.Clone(wanted), func(p debianPackage) bool { return installed(ctx, p.name) })
	if len(missing) == 0 {
		return nil
	}
	names := make([]string, 0, len(missing))
	for _, p := range missing {
		names = append(names, p.name)
		if _, err := fmt.Fprintf(c.out, "installing Debian package %s (%s)\n", p.name, p.why); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("installing Debian packages needs root; as root run: apt-get install %s", strings.Join(names, " "))
	}
	return c.steps.do("packages", func() (string, error) {
		env := []string{"DEBIAN_FRONTEND=noninteractive"}
		if _, err := (tool{path: "apt-get", args: []string{"update"}, env: env}).output(ctx); err != nil {
			return "", err
		}
		args := append([]string{"install", "--yes", "--no-install-recommends"}, names...)
		_, err := tool{path: "apt-get", args: args, env: env}.output(ctx)
		return fmt.Sprintf("%d installed", len(names)), err
	})
}

func installed(ctx context.Context, name string) bool {
	output, err := exec.CommandContext(ctx, "dpkg-query", "--show", "--showformat=${db:Status-Status}", name).Output()
	return err == nil && string(output) == "installed"
}
