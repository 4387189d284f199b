package strategy_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/strategy"
)

const gi = 1 << 30

// possible are facts with which every strategy is possible.
func possible() *strategy.Facts {
	return &strategy.Facts{
		Source: &strategy.Source{
			Kind: v1alpha1.CopyOfClaim, Name: "claim golden/debian", Driver: "csi.example.org", Mode: corev1.PersistentVolumeBlock, Capacity: 4 * gi,
			Snapshot: &strategy.Snapshot{Ready: true, RestoreSize: 4 * gi},
		},
		Target: strategy.Target{Class: "fast", Provisioner: "csi.example.org", Mode: corev1.PersistentVolumeBlock, Size: 4 * gi},
		Copies: true, Import: true,
	}
}

func TestChoose(t *testing.T) {
	const snapshot, copied, imported = v1alpha1.StrategySnapshot, v1alpha1.StrategyCopy, v1alpha1.StrategyImport
	ofSnapshot := func(f *strategy.Facts) { f.Source.Kind, f.Source.Capacity = v1alpha1.CopyOfSnapshot, 0 }
	file := func(f *strategy.Facts) {
		f.Source.Mode, f.Target.Mode = corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeFilesystem
	}
	for name, test := range map[string]struct {
		change func(*strategy.Facts)
		want   v1alpha1.Strategy
		// passed are the words in the message of each strategy that is passed over.
		passed [][]string
	}{
		"all is possible":       {func(*strategy.Facts) {}, snapshot, nil},
		"nothing to copy":       {func(f *strategy.Facts) { f.Source = nil }, imported, [][]string{{"no volume"}, {"no volume"}}},
		"the source is gone":    {func(f *strategy.Facts) { f.Source.Lost = "it was deleted" }, imported, [][]string{{"deleted"}, {"deleted"}}},
		"no CSI volume":         {func(f *strategy.Facts) { f.Source.Driver = "" }, copied, [][]string{{"CSI driver"}}},
		"another driver":        {func(f *strategy.Facts) { f.Target.Provisioner = "other.example.org" }, copied, [][]string{{"StorageClass of csi.example.org"}}},
		"Block to Filesystem":   {func(f *strategy.Facts) { f.Target.Mode = corev1.PersistentVolumeFilesystem }, copied, [][]string{{"ask for Block"}}},
		"no class":              {func(f *strategy.Facts) { f.Source.Snapshot = nil }, copied, [][]string{{"VolumeSnapshotClass", "create one"}}},
		"to be taken":           {func(f *strategy.Facts) { f.Source.Snapshot, f.Source.Class = nil, "snaps" }, snapshot, nil},
		"a broken snapshot":     {func(f *strategy.Facts) { f.Source.Snapshot.Ready, f.Source.Snapshot.Failure = false, "no space" }, copied, [][]string{{"no space"}}},
		"not ready yet":         {func(f *strategy.Facts) { f.Source.Snapshot.Ready = false }, snapshot, nil},
		"a larger claim":        {func(f *strategy.Facts) { f.Target.Size = 5 * gi }, snapshot, nil},
		"a smaller claim":       {func(f *strategy.Facts) { f.Target.Size = 3 * gi }, imported, [][]string{{"at least 4Gi"}, {"at least 4Gi"}}},
		"a snapshot needs more": {func(f *strategy.Facts) { f.Source.Snapshot.RestoreSize = 5 * gi }, copied, [][]string{{"at least 5Gi"}}},
		"a snapshot says less":  {func(f *strategy.Facts) { f.Source.Snapshot.RestoreSize, f.Target.Size = gi, 2*gi }, imported, [][]string{{"at least 4Gi"}, {"at least 4Gi"}}},
		"a small disk in a file": {func(f *strategy.Facts) {
			file(f)
			f.Source.DiskSize, f.Target.Size = gi, 2*gi
		}, copied, [][]string{{"at least 4Gi"}}},
		"a disk of unknown size": {func(f *strategy.Facts) { file(f); f.Target.Size = 2 * gi }, copied, [][]string{{"at least 4Gi"}}},
		"writers":                {func(f *strategy.Facts) { f.Source.Writers = []string{"vm"} }, snapshot, nil},
		"writers, no class":      {func(f *strategy.Facts) { f.Source.Snapshot, f.Source.Writers = nil, []string{"a", "b", "c", "d"} }, imported, [][]string{{"create one"}, {"a, b, c and 1 more"}}},
		"copies are off":         {func(f *strategy.Facts) { f.Source.Snapshot, f.Copies = nil, false }, imported, [][]string{{"create one"}, {"--copy"}}},
		"passed over before": {func(f *strategy.Facts) {
			f.PassedOver = []v1alpha1.PassedOver{{Strategy: snapshot, Message: "too slow"}}
		}, copied, [][]string{{"too slow"}}},
		"a snapshot":            {ofSnapshot, snapshot, nil},
		"a snapshot, no mode":   {func(f *strategy.Facts) { ofSnapshot(f); f.Source.Mode = "" }, imported, [][]string{{"volumeMode"}, {"cannot", "restored", "not read"}}},
		"a snapshot, too large": {func(f *strategy.Facts) { ofSnapshot(f); f.Target.Size = gi }, imported, [][]string{{"at least 4Gi"}, {"not read"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := possible()
			test.change(f)
			choice := strategy.Choose(f)
			require.Equal(t, test.want, choice.Strategy)
			require.Empty(t, choice.Wait)
			require.Len(t, choice.PassedOver, len(test.passed))
			for i, words := range test.passed {
				require.Equal(t, []v1alpha1.Strategy{snapshot, copied}[i], choice.PassedOver[i].Strategy)
				require.Contains(t, choice.PassedOver[i].Message, words[len(words)-1])
			}
		})
	}
}

func TestChooseWithoutAnImport(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*strategy.Facts)
		wait   string
	}{
		"nothing helps":      {func(f *strategy.Facts) { f.Source.Lost = "it was deleted" }, ""},
		"a smaller claim":    {func(f *strategy.Facts) { f.Target.Size = gi }, ""},
		"writers":            {func(f *strategy.Facts) { f.Source.Snapshot, f.Source.Writers = nil, []string{"vm"} }, strategy.WaitForWriters},
		"snapshot not ready": {func(f *strategy.Facts) { f.Source.Kind, f.Source.Snapshot.Ready = v1alpha1.CopyOfSnapshot, false }, strategy.WaitForSnapshot},
	} {
		t.Run(name, func(t *testing.T) {
			f := possible()
			f.Import = false
			test.change(f)
			choice := strategy.Choose(f)
			require.Empty(t, choice.Strategy)
			require.Len(t, choice.PassedOver, 3)
			require.Equal(t, test.wait, choice.Wait)
			require.Equal(t, test.wait != "", choice.Message != "")
		})
	}
}
