// Package strategy chooses how a disk gets on a volume: restored from a snapshot, copied from the
// volume that has it, or imported again from where it came from. It decides on facts alone; others
// find them out and act.
package strategy

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// Choose finds the fastest strategy that is possible. What was passed over once stays so.
func Choose(f *Facts) Choice {
	var c Choice
	for _, candidate := range []struct {
		strategy v1alpha1.Strategy
		check    func(*Facts) refusal
	}{
		{v1alpha1.StrategySnapshot, ofSource(checkSnapshot)},
		{v1alpha1.StrategyCopy, ofSource(checkCopy)},
		{v1alpha1.StrategyImport, checkImport},
	} {
		refused := passedOver(f.PassedOver, candidate.strategy)
		if refused.why == "" {
			refused = candidate.check(f)
		}
		if refused.why == "" {
			c.Strategy, c.Wait, c.Message = candidate.strategy, "", ""
			return c
		}
		if refused.wait != "" && c.Wait == "" {
			c.Wait, c.Message = refused.wait, refused.why
		}
		c.PassedOver = append(c.PassedOver, v1alpha1.PassedOver{Strategy: candidate.strategy, Message: refused.why})
	}
	return c
}

// CannotRestore says why the snapshot of Facts.Source, or one that would be taken, cannot be restored for the target;
// empty when it can.
func CannotRestore(f *Facts) string { return checkSnapshot(f).why }

// refusal is why a strategy is not possible; the zero value when it is. wait is set when that may pass.
type refusal struct{ why, wait string }

func no(format string, args ...any) refusal { return refusal{why: fmt.Sprintf(format, args...)} }

// notYet is a no that may pass.
func notYet(wait, format string, args ...any) refusal {
	return refusal{why: fmt.Sprintf(format, args...), wait: wait}
}

func passedOver(earlier []v1alpha1.PassedOver, strategy v1alpha1.Strategy) refusal {
	for _, p := range earlier {
		if p.Strategy == strategy {
			return no("%s", p.Message)
		}
	}
	return refusal{}
}

// ofSource is a check that is worth while only when there is a source to read.
func ofSource(check func(*Facts) refusal) func(*Facts) refusal {
	return func(f *Facts) refusal {
		switch {
		case f.Source == nil:
			return no("there is no volume or snapshot to copy")
		case f.Source.Lost != "":
			return no("%s", f.Source.Lost)
		}
		return check(f)
	}
}

// checkSnapshot follows what external-provisioner asks of a restore.
func checkSnapshot(f *Facts) refusal {
	s, t := f.Source, &f.Target
	switch {
	case s.Snapshot != nil && !s.Snapshot.Ready && s.Snapshot.Failure != "":
		return no("the snapshot of %s cannot be used: %s", s.Name, s.Snapshot.Failure)
	case s.Kind == v1alpha1.CopyOfSnapshot && !s.Snapshot.Ready:
		return notYet(WaitForSnapshot, "%s is not ready to use: its driver says when it is", s.Name)
	case s.Driver == "":
		return no("%s is not held by a CSI driver, which could take snapshots: use a StorageClass of one", s.Name)
	case s.Driver != t.Provisioner:
		return no("%s is held by %s, and StorageClass %s is of %s: ask for a StorageClass of %s", s.Name, s.Driver, t.Class, t.Provisioner, s.Driver)
	case s.Mode == "":
		return no("nobody says which volumeMode %s has: take the snapshot again with a newer snapshot controller", s.Name)
	case s.Mode != t.Mode:
		return no("%s has volumeMode %s, and the claim asks for %s: ask for %s", s.Name, s.Mode, t.Mode, s.Mode)
	case s.Snapshot == nil && s.Class == "":
		return no("there is no VolumeSnapshotClass with deletionPolicy Delete for %s: create one", s.Driver)
	}
	if least := s.RestoreSize(); t.Size < least {
		return no("a snapshot of %s needs %s, and the claim asks for %s: ask for at least %s", s.Name, quantity(least), quantity(t.Size), quantity(least))
	}
	return refusal{}
}

// checkCopy: any driver and both modes will do, since the bytes of the disk are read and written.
func checkCopy(f *Facts) refusal {
	s, t := f.Source, &f.Target
	switch {
	case s.Kind == v1alpha1.CopyOfSnapshot:
		return no("%s can be restored but not read: name a claim to copy", s.Name)
	case !f.Copies:
		return no("copies of volumes are turned off: start the populator with --copy")
	}
	// The importer counts the overhead of a file system, and refuses a disk of unknown size itself.
	if least := diskSize(s); t.Size < least {
		return no("the disk of %s has %s, and the claim asks for %s: ask for at least %s", s.Name, quantity(least), quantity(t.Size), quantity(least))
	}
	if len(s.Writers) > 0 {
		return notYet(WaitForWriters, "%s may be written to by %s: stop that first", s.Name, pods(s.Writers))
	}
	return refusal{}
}

// diskSize is how many bytes a copy writes at least: all of a Block volume.
func diskSize(s *Source) int64 {
	if s.Mode == corev1.PersistentVolumeBlock {
		return s.Capacity
	}
	return s.DiskSize
}

func checkImport(f *Facts) refusal {
	if !f.Import {
		return no("nobody says where the disk came from: it cannot be imported again")
	}
	return refusal{}
}

// pods lists a few names for people.
func pods(names []string) string {
	const enough = 3
	switch {
	case len(names) == 1:
		return "pod " + names[0]
	case len(names) > enough:
		return fmt.Sprintf("pods %s and %d more", strings.Join(names[:enough], ", "), len(names)-enough)
	}
	return "pods " + strings.Join(names, ", ")
}

// quantity is a size as a claim asks for it.
func quantity(bytes int64) string { return resource.NewQuantity(bytes, resource.BinarySI).String() }
