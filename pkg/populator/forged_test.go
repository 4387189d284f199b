package populator

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/test/definition"
)

const forgedUID = "forged-uid"

// TestForgedImportOfAGoldenClaimIsMadeAnew: it bears the claim's name and owner, and was there before ours.
func TestForgedImportOfAGoldenClaimIsMadeAnew(t *testing.T) {
	evil := v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: "https://evil.example.org/disk"}}
	for name, forge := range map[string]func(*v1alpha1.VMDiskImportSpec){
		"another URL":             func(s *v1alpha1.VMDiskImportSpec) { s.Source = evil },
		"another pin":             func(s *v1alpha1.VMDiskImportSpec) { s.Pin = revisionB().Pin },
		"no pin":                  func(s *v1alpha1.VMDiskImportSpec) { s.Pin = nil },
		"no digest":               func(s *v1alpha1.VMDiskImportSpec) { s.RecordDigest = false },
		"another checksum":        func(s *v1alpha1.VMDiskImportSpec) { s.Checksum = "sha256:" + strings.Repeat("a", 64) },
		"another format":          func(s *v1alpha1.VMDiskImportSpec) { s.Format = v1alpha1.DiskFormatQcow2 },
		"another size":            func(s *v1alpha1.VMDiskImportSpec) { s.Size = ptr.To(resource.MustParse("3Gi")) },
		"a copy":                  func(s *v1alpha1.VMDiskImportSpec) { s.CopyOf = copyOfClaim(handMade("vms")) },
		"an image that is gone":   func(s *v1alpha1.VMDiskImportSpec) { s.Source, s.ImageRef = evil, v1alpha1.ImageReference{Name: "gone"} },
		"a cron that is gone":     func(s *v1alpha1.VMDiskImportSpec) { s.Source, s.ImageRef.Name = evil, "gone" },
		"another UID of the cron": func(s *v1alpha1.VMDiskImportSpec) { s.ImageRef.UID = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			claim, cron := goldenClaim(revisionA()), testCron(revisionA(), nil)
			wanted := cronSpec(t, claim, cron)
			spec := wanted.DeepCopy()
			forge(spec)
			forged := newImport(claim, spec)
			forged.UID = forgedUID
			w := newWorld(t, cron, claim, forged, handMade("vms"), volumeFor(handMade("vms")), fastClass())
			w.admit = func(job *batchv1.Job) error {
				require.NotEqual(t, forgedUID, job.Labels[labelImportUID])
				return nil
			}
			w.settle(w.bound)
			require.Equal(t, newImport(claim, wanted).Spec, w.findImport().Spec)
			require.Len(t, w.jobs, 1)
		})
	}
}

// TestTrueImportIsNotMadeAnew, even if the API server has filled in what it leaves out.
func TestTrueImportIsNotMadeAnew(t *testing.T) {
	claim, cron := goldenClaim(revisionA()), testCron(revisionA(), nil)
	ours := newImport(claim, cronSpec(t, claim, cron))
	ours.UID, ours.Spec.Format = "our-uid", v1alpha1.DiskFormatRaw
	w := newWorld(t, cron, claim, ours, fastClass())
	w.settle(w.bound)
	require.EqualValues(t, "our-uid", w.findImport().UID)
}

// TestNothingBeginsBeforeItsKindIsKnown: who serves the kind is found out after the start.
func TestNothingBeginsBeforeItsKindIsKnown(t *testing.T) {
	claim, cron := goldenClaim(revisionA()), testCron(revisionA(), nil)
	ours := newImport(claim, cronSpec(t, claim, cron))
	ours.UID = "our-uid"
	w := newWorld(t, cron, claim, ours, fastClass())
	for _, k := range w.kinds {
		k.setPresence(presenceUnknown)
	}
	w.ticks(3)
	require.Empty(t, w.jobs)
	for _, k := range w.kinds {
		k.setPresence(presenceOurs)
	}
	w.settle(w.bound)
	require.EqualValues(t, "our-uid", w.findImport().UID, "it keeps its place in the line")
}

// TestImportUnderAnotherNameNeverBegins: a claim has one import, which bears its name.
func TestImportUnderAnotherNameNeverBegins(t *testing.T) {
	claim, cron := goldenClaim(revisionA()), testCron(revisionA(), nil)
	other := newImport(claim, cronSpec(t, claim, cron))
	other.Name, other.UID = "other", forgedUID
	w := newWorld(t, cron, claim, other, fastClass())
	for range 5 {
		w.reconcile(t.Context(), w.imports, other.Name)
	}
	require.False(t, w.find(&v1alpha1.VMDiskImport{}, other.Namespace, other.Name))
}

// TestDefaultsAreThoseOfTheAPIServer: or every import would be made anew for ever.
func TestDefaultsAreThoseOfTheAPIServer(t *testing.T) {
	kind := definition.Load(t, filepath.Join("..", "..", "deploy", "crds", "virtualization.k8s.io_vmdiskimports.yaml"))
	for name, source := range map[string]v1alpha1.DiskSource{
		"http":        revisionA().Source,
		"registry":    {Registry: &v1alpha1.RegistrySource{URL: "docker://registry.example.org/disk:1"}},
		"imageStream": {Registry: &v1alpha1.RegistrySource{ImageStream: "debian:12"}},
		"platform":    {Registry: &v1alpha1.RegistrySource{URL: "docker://registry.example.org/disk:1", Platform: &v1alpha1.ImagePlatform{}}},
		"imageRef":    {ImageRef: "registry.example.org/disk:1"},
	} {
		t.Run(name, func(t *testing.T) {
			made := newImport(goldenClaim(revisionA()), &v1alpha1.VMDiskImportSpec{
				ImageRef: v1alpha1.ImageReference{Kind: golden.CronKind, Name: sourceName, UID: "cron-uid"}, ImageSpec: v1alpha1.ImageSpec{Source: source}, Pin: &v1alpha1.Pin{}})
			made.APIVersion, made.Kind = v1alpha1.GroupVersion().String(), "VMDiskImport"
			sent, err := runtime.DefaultUnstructuredConverter.ToUnstructured(made)
			require.NoError(t, err)
			delete(sent, "status")
			stored := &unstructured.Unstructured{Object: sent}
			require.NoError(t, kind.Create(t.Context(), stored))
			read := &v1alpha1.VMDiskImport{}
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(stored.Object, read))
			require.NotEqual(t, made.Spec, read.Spec, "the API server fills something in")
			require.True(t, sameImport(&made.Spec, &read.Spec))
		})
	}
}
