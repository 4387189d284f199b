package populator

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fakediscovery "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/golden"
)

func TestKindOfClaim(t *testing.T) {
	all := newKinds()
	for name, test := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		want  string
	}{
		"VMDiskImage":    {testClaim(), kindImage},
		"DataImportCron": {cronClaim(), golden.CronKind},
		"DataSource":     {sourceClaim(), golden.DataSourceKind},
	} {
		k, source := all.of(test.claim)
		require.Equal(t, test.want, k.name, name)
		require.Equal(t, sourceName, source)
		ref := test.claim.Spec.DataSourceRef
		for other, change := range map[string]func(){
			"group":     func() { ref.APIGroup = ptr.To("snapshot.storage.k8s.io") },
			"no group":  func() { ref.APIGroup = nil },
			"kind":      func() { ref.Kind = "Other" },
			"namespace": func() { ref.Namespace = ptr.To("other") },
			"none":      func() { test.claim.Spec.DataSourceRef = nil },
		} {
			was := *ref
			change()
			k, _ := all.of(test.claim)
			require.Nil(t, k, "%s of %s", other, name)
			*ref = was
			test.claim.Spec.DataSourceRef = ref
		}
	}
}

func TestTurn(t *testing.T) {
	const unknown, absent, ours, foreign = presenceUnknown, presenceAbsent, presenceOurs, presenceForeign
	for _, test := range []struct {
		was, found, is presence
		news           bool
	}{
		{unknown, absent, absent, true},
		{unknown, ours, ours, true},
		{unknown, foreign, foreign, true},
		{absent, absent, absent, false},
		{absent, ours, ours, true},
		{foreign, ours, ours, true},
		{ours, ours, ours, false},
		{ours, absent, ours, false}, // its watches go on when it is back
	} {
		k := &kind{}
		k.setPresence(test.was)
		news, err := k.turn(test.found)
		require.NoError(t, err)
		require.Equal(t, test.news, news, "%s, then %s", test.was, test.found)
		require.Equal(t, test.is, k.presence())
	}
	taken := &kind{}
	taken.setPresence(ours)
	_, err := taken.turn(foreign)
	require.ErrorContains(t, err, "somebody else")
}

func TestLook(t *testing.T) {
	definition := func(name string, labels map[string]string) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		}
	}
	served := []*metav1.APIResourceList{
		{GroupVersion: v1alpha1.GroupVersion().String(), APIResources: []metav1.APIResource{{Name: "vmdiskimages"}}},
		{GroupVersion: "cdi.kubevirt.io/v1beta1", APIResources: []metav1.APIResource{{Name: "datasources"}, {Name: "dataimportcrons"}}},
	}
	owned := definition(cdi.CronDefinition, map[string]string{cdi.LabelOwned: "true"})
	for name, test := range map[string]struct {
		served      []*metav1.APIResourceList
		definition  *metav1.PartialObjectMetadata
		image, cron presence
	}{
		"nothing is installed": {nil, nil, presenceAbsent, presenceAbsent},
		"without deploy/cdi":   {served[:1], nil, presenceOurs, presenceAbsent},
		"with deploy/cdi":      {served, owned, presenceOurs, presenceOurs},
		"not served yet":       {served[:1], owned, presenceOurs, presenceAbsent},
		"beside CDI":           {served, definition(cdi.CronDefinition, nil), presenceOurs, presenceForeign},
		"taken over by CDI":    {served, definition(cdi.InstallDefinition, nil), presenceOurs, presenceForeign},
	} {
		t.Run(name, func(t *testing.T) {
			scheme := runtime.NewScheme()
			require.NoError(t, metav1.AddMetaToScheme(scheme))
			builder := fake.NewClientBuilder().WithScheme(scheme)
			if test.definition != nil {
				builder = builder.WithObjects(test.definition)
			}
			live, found := builder.Build(), map[string]presence{}
			for _, k := range newKinds() {
				m := &machinery{kind: k, discovery: &fakediscovery.FakeDiscovery{Fake: &clienttesting.Fake{Resources: test.served}}, remains: remains{live: live}}
				p, err := m.look(t.Context())
				require.NoError(t, err)
				found[k.name] = p
			}
			require.Equal(t, map[string]presence{kindImage: test.image, golden.CronKind: test.cron, golden.DataSourceKind: test.cron}, found)
		})
	}
}
