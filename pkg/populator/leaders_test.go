package populator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

func TestOneLeads(t *testing.T) {
	l, now := newLeaders(), time.Unix(1000, 0)
	one, two, three := named("web-1"), named("web-2"), named("web-3")
	require.True(t, l.take("debian", one, now))
	require.True(t, l.take("debian", one, now.Add(time.Second)), "it may ask again")
	require.False(t, l.take("debian", two, now))
	require.True(t, l.take("fedora", three, now), "another image")
	require.True(t, l.holds("debian", one, now))
	require.False(t, l.holds("fedora", one, now))

	late := now.Add(leadPatience)
	require.False(t, l.holds("debian", one, late))
	require.True(t, l.take("debian", two, late), "the first does not get on")
	require.True(t, l.starting("debian", two, late))
	l.join("debian", one, late)
	require.True(t, l.holds("debian", one, late), "its attempt was made after all")

	l.keep(two, late.Add(leadPatience))
	require.True(t, l.holds("debian", two, late.Add(leadPatience)), "it waits for its turn")
	require.True(t, l.has("debian", one))
	l.leave(one)
	l.leave(two)
	l.keep(two, late)
	require.False(t, l.has("debian", two))
	require.False(t, l.holds("debian", two, late))
	require.True(t, l.starting("debian", two, late), "after a restart nobody knows since when")
	require.False(t, l.starting("debian", two, late.Add(leadPatience)))
}

// TestOfTwoThatCedeToEachOtherOneDoes: two would wait for each other for ever.
func TestOfTwoThatCedeToEachOtherOneDoes(t *testing.T) {
	l, now := newLeaders(), time.Unix(1000, 0)
	one, two := named("web-1"), named("web-2")
	l.join("debian", one, now)
	l.join("debian", two, now)
	require.True(t, l.cede("debian", one, two, now))
	require.False(t, l.cede("debian", two, one, now))
	require.True(t, l.holds("debian", two, now))
	require.False(t, l.cede("debian", one, two, now.Add(leadPatience)))
}

func TestWhoIsWaitedFor(t *testing.T) {
	now := time.Unix(100000, 0)
	running := func(change func(imp *v1alpha1.VMDiskImport)) *v1alpha1.VMDiskImport {
		imp := testImport()
		imp.Status.Attempts, imp.Status.Strategy = 1, v1alpha1.StrategyImport
		state{phase: v1alpha1.PhaseImporting, reason: reasonImporting}.apply(imp, now)
		change(imp)
		return imp
	}
	says := func(s state) func(imp *v1alpha1.VMDiskImport) {
		return func(imp *v1alpha1.VMDiskImport) { s.apply(imp, now) }
	}
	for name, test := range map[string]struct {
		imp  *v1alpha1.VMDiskImport
		want bool
	}{
		"it runs":            {running(func(*v1alpha1.VMDiskImport) {}), true},
		"it verifies":        {running(says(state{phase: v1alpha1.PhaseVerifying, reason: reasonVerifying})), true},
		"it starts":          {running(says(pending(reasonStarting, ""))), true},
		"no node takes it":   {running(says(blocked(reasonUnschedulable, ""))), false},
		"its node is away":   {running(says(blocked(reasonNodeUnreachable, ""))), false},
		"it waits for login": {running(says(blocked("SecretNotFound", ""))), false},
		"it has failed":      {running(says(state{phase: v1alpha1.PhaseFailed})), false},
		"it has succeeded":   {running(says(state{phase: v1alpha1.PhaseSucceeded})), false},
		"it has its result": {running(func(imp *v1alpha1.VMDiskImport) {
			imp.Status.Result = &v1alpha1.ImportResult{Time: metav1.NewTime(now)}
		}), true},
		"it has it for long": {running(func(imp *v1alpha1.VMDiskImport) {
			imp.Status.Result = &v1alpha1.ImportResult{Time: metav1.NewTime(now.Add(-endPatience))}
		}), false},
		"it rests":              {running(func(imp *v1alpha1.VMDiskImport) { imp.Status.NextAttemptTime = &metav1.Time{Time: now} }), false},
		"it has not begun":      {testImport(), false},
		"it waits for another":  {running(func(imp *v1alpha1.VMDiskImport) { imp.Status.Reuses = &v1alpha1.ImportReference{UID: "x"} }), false},
		"it is deleted":         {running(func(imp *v1alpha1.VMDiskImport) { imp.DeletionTimestamp = &metav1.Time{Time: now} }), false},
		"another generation":    {running(func(imp *v1alpha1.VMDiskImport) { imp.Spec.ImageRef.Generation = 2 }), false},
		"another namespace":     {running(func(imp *v1alpha1.VMDiskImport) { imp.Namespace = "others" }), false},
		"another reference":     {running(func(imp *v1alpha1.VMDiskImport) { imp.Status.ResolvedReference = "x" }), false},
		"another image":         {running(func(imp *v1alpha1.VMDiskImport) { imp.Spec.ImageRef.UID = "x" }), false},
		"another claim":         {running(func(imp *v1alpha1.VMDiskImport) { imp.Spec.ClaimRef.UID = "x" }), true},
		"what is there already": {running(func(imp *v1alpha1.VMDiskImport) { imp.Spec.Reuse = v1alpha1.ReuseAuto }), true},
		"it wants none":         {running(func(imp *v1alpha1.VMDiskImport) { imp.Spec.Reuse = v1alpha1.ReuseNever }), false},
		"it has found it cannot": {running(func(imp *v1alpha1.VMDiskImport) {
			imp.Status.PassedOver = []v1alpha1.PassedOver{{Strategy: v1alpha1.StrategySnapshot}}
		}), false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, newLeaders().gettingOn(reuseKey(testImport()), test.imp, now))
		})
	}
}

func TestPinOfWhatWasFound(t *testing.T) {
	http, registry := testImport().Spec, testImport().Spec
	registry.Source = v1alpha1.DiskSource{ImageRef: "registry.example.org/disk:1"}
	checked := http
	checked.Checksum = "sha256:aa"
	for name, test := range map[string]struct {
		spec  v1alpha1.VMDiskImportSpec
		found v1alpha1.ImportResult
		pin   *v1alpha1.Pin
		ok    bool
	}{
		"strong ETag":       {http, v1alpha1.ImportResult{ETag: `"one"`, LastModified: "then"}, &v1alpha1.Pin{ETag: `"one"`, LastModified: "then"}, true},
		"weak ETag":         {http, v1alpha1.ImportResult{ETag: `W/"one"`}, nil, false},
		"time":              {http, v1alpha1.ImportResult{ETag: `W/"one"`, LastModified: "then"}, &v1alpha1.Pin{LastModified: "then"}, true},
		"checksum":          {checked, v1alpha1.ImportResult{}, nil, true},
		"checksum and ETag": {checked, v1alpha1.ImportResult{ETag: `"one"`, Digest: "sha256:aa"}, &v1alpha1.Pin{ETag: `"one"`}, true},
		"nothing":           {http, v1alpha1.ImportResult{Digest: "sha256:aa"}, nil, false},
		"registry":          {registry, v1alpha1.ImportResult{Digest: "sha256:aa", ETag: `"layer"`}, &v1alpha1.Pin{Digest: "sha256:aa"}, true},
		"registry, unknown": {registry, v1alpha1.ImportResult{ETag: `"layer"`}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			pin, ok := pinOf(&test.spec, &test.found)
			require.Equal(t, test.ok, ok)
			if ok {
				require.Equal(t, test.pin, pin)
			}
		})
	}
}
