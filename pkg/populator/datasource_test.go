package populator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

func TestResolveDataSource(t *testing.T) {
	managed := func(of *cdiv1.DataVolumeSourcePVC) *cdiv1.DataSource {
		source := testDataSource(of)
		source.Labels = map[string]string{golden.LabelCron: sourceName}
		return source
	}
	cron := func(imported *golden.Revision) *cdiv1.DataImportCron {
		cron := testCron(nil, imported)
		cron.Spec.ManagedDataSource = sourceName
		return cron
	}
	pointing := testDataSource(nil)
	pointing.Spec.Source.DataSource = &cdiv1.DataSourceRefSourceDataSource{Name: "other"}
	pointed := managed(ofHeld())
	pointed.Name, pointed.UID = "other", "other-uid"
	cronOfPointed := cron(revisionA())
	cronOfPointed.Spec.ManagedDataSource = "other"
	deep := pointing.DeepCopy()
	deep.Name = "other"
	deep.Spec.Source.DataSource.Name = sourceName
	elsewhere := heldClaim(revisionA())
	elsewhere.Namespace = "golden"
	ofElsewhere := ofHeld()
	ofElsewhere.Namespace = "golden"
	unbound := handMade("vms")
	unbound.Status.Phase = corev1.ClaimPending
	going := heldClaim(revisionA())
	going.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	itself := sourceClaim()
	itself.Status.Phase = corev1.ClaimBound
	forged := heldClaim(&golden.Revision{Digest: revisionA().Digest, Source: v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: "https://evil.example.org/", SecretRef: "not-yours"}}})

	for name, test := range map[string]struct {
		source *cdiv1.DataSource
		others []client.Object
		copy   *v1alpha1.CopySource // what is copied
		again  *golden.Revision     // what is imported again
		of     *golden.Revision     // the revision that is recorded
		waits  bool
	}{
		"a golden claim":                         {managed(ofHeld()), []client.Object{heldClaim(revisionA()), cron(revisionA())}, copyOfClaim(heldClaim(revisionA())), revisionA(), revisionA(), false},
		"a golden claim of the past":             {managed(ofHeld()), []client.Object{heldClaim(revisionA()), cron(revisionB())}, copyOfClaim(heldClaim(revisionA())), nil, revisionA(), false},
		"a golden claim with another URL":        {managed(ofHeld()), []client.Object{forged, cron(revisionA())}, copyOfClaim(forged), revisionA(), revisionA(), false},
		"a golden claim without its cron":        {managed(ofHeld()), []client.Object{heldClaim(revisionA())}, copyOfClaim(heldClaim(revisionA())), nil, revisionA(), false},
		"a golden claim of another namespace":    {testDataSource(ofElsewhere), []client.Object{elsewhere, cron(revisionA())}, copyOfClaim(elsewhere), nil, revisionA(), false},
		"a golden claim that is gone":            {managed(ofHeld()), []client.Object{cron(revisionA())}, nil, revisionA(), revisionA(), false},
		"a golden claim that goes":               {managed(ofHeld()), []client.Object{going, cron(revisionA())}, nil, revisionA(), revisionA(), false},
		"gone, and of no cron":                   {testDataSource(ofHeld()), []client.Object{cron(revisionA())}, nil, nil, nil, true},
		"gone, with a cron that manages another": {managed(ofHeld()), []client.Object{testCron(nil, revisionA())}, nil, nil, nil, true},
		"a claim made by hand":                   {testDataSource(&cdiv1.DataVolumeSourcePVC{Name: "by-hand"}), []client.Object{handMade("vms")}, copyOfClaim(handMade("vms")), nil, nil, false},
		"a claim that is not bound":              {testDataSource(&cdiv1.DataVolumeSourcePVC{Name: "by-hand"}), []client.Object{unbound}, nil, nil, nil, true},
		"the claim itself":                       {testDataSource(&cdiv1.DataVolumeSourcePVC{Name: "web-1"}), []client.Object{itself}, nil, nil, nil, true},
		"another DataSource":                     {pointing, []client.Object{pointed, heldClaim(revisionA()), cronOfPointed}, copyOfClaim(heldClaim(revisionA())), revisionA(), revisionA(), false},
		"another DataSource, claim gone":         {pointing, []client.Object{pointed, cronOfPointed}, nil, revisionA(), revisionA(), false},
		"a loop":                                 {pointing, []client.Object{deep}, nil, nil, nil, true},
		"no source":                              {testDataSource(nil), nil, nil, nil, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			spec, waiting, err := resolveDataSource(t.Context(), seen(t, test.others...), sourceClaim(), test.source)
			require.NoError(t, err)
			if test.waits {
				require.Nil(t, spec)
				require.Equal(t, reasonSourceNotReady, waiting.reason)
				return
			}
			require.Nil(t, waiting)
			want := &v1alpha1.VMDiskImportSpec{CopyOf: test.copy, ImageRef: v1alpha1.ImageReference{Kind: golden.DataSourceKind, Name: sourceName, UID: "source-uid"}}
			if test.of != nil {
				want.ImageRef.Revision = test.of.Digest
			}
			if test.again != nil {
				want.Source, want.Pin = test.again.Source, test.again.Pin
			}
			require.Equal(t, want, spec)
		})
	}
}

func TestLeadChanged(t *testing.T) {
	matters, was := leadChanged(), testDataSource(ofHeld())
	for name, test := range map[string]struct {
		change func(*cdiv1.DataSource)
		want   bool
	}{
		"heartbeat": {func(s *cdiv1.DataSource) { s.Status.Conditions = []cdiv1.DataSourceCondition{{}} }, false},
		"held":      {func(s *cdiv1.DataSource) { s.Finalizers = []string{finalizerDataSource} }, false},
		"repointed": {func(s *cdiv1.DataSource) { s.Spec.Source.PVC.Name = "another" }, true},
		"ready":     {func(s *cdiv1.DataSource) { s.Status.Source.PVC = ofHeld() }, true},
		"made anew": {func(s *cdiv1.DataSource) { s.UID = "another" }, true},
	} {
		now := was.DeepCopy()
		test.change(now)
		require.Equal(t, test.want, matters.Update(event.UpdateEvent{ObjectOld: was, ObjectNew: now}), name)
	}
}
