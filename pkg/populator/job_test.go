package populator

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	psaapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
)

var update = flag.Bool("update", false, "write the golden files anew")

const jobTemplate = `
metadata:
  annotations: {team: platform}
  labels: {gild.dev/claim-uid: forged}
  finalizers: [example.org/never]
spec:
  restartPolicy: Always
  automountServiceAccountToken: true
  nodeSelector: {kubernetes.io/arch: amd64}
  volumes: [{name: target, emptyDir: {}}, {name: extra, emptyDir: {}}]
  tolerations: [{key: storage, operator: Exists}]
  imagePullSecrets: [{name: pull}]
  containers:
  - name: importer
    args: [--source, http://evil.example.org]
    volumeMounts: [{name: scratch, mountPath: /target}, {name: extra, mountPath: /extra}]
    env: [{name: HTTPS_PROXY, value: "http://proxy.example.org:3128"}]
    resources: {limits: {memory: 1Gi}}
`

// attempts are the attempts whose Jobs are kept as golden files.
func attempts(t *testing.T) map[string]*attempt {
	t.Helper()
	block := testAttempt()
	block.claim.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)

	private := testAttempt()
	private.number, private.scratch = 3, true
	private.spec.Source.HTTP.URL = "https://images.example.org/$(HTTPS_PROXY)/disk.img"
	private.spec.Checksum = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	private.spec.Format = v1alpha1.DiskFormatQcow2
	private.spec.Size = ptr.To(resource.MustParse("20Gi"))
	private.credentials = &credentials.Credentials{
		Secret: map[string][]byte{"username": []byte("canary"), "password": []byte("canary"), credentials.HeaderKey(0): []byte("X-Team: canary")},
		CA:     &corev1.ConfigMap{Data: map[string]string{"ca.pem": "canary"}},
	}

	templated := testAttempt()
	path := filepath.Join(t.TempDir(), "template.yaml")
	require.NoError(t, os.WriteFile(path, []byte(jobTemplate), 0o600))
	template, err := readJobTemplate(path)
	require.NoError(t, err)
	templated.template = template
	blank := testAttempt()
	blank.spec.Source, blank.spec.Size = v1alpha1.DiskSource{Blank: &v1alpha1.BlankSource{}}, ptr.To(resource.MustParse("20Gi"))
	all := map[string]*attempt{"filesystem": testAttempt(), "block": block, "private": private, "templated": templated, "blank": blank}
	maps.Copy(all, registryAttempts(t, template))
	maps.Copy(all, cronAttempts(t))
	return all
}

// registryAttempts are those that read images from registries.
func registryAttempts(t *testing.T, template []byte) map[string]*attempt {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "apis", "virtualization", "v1alpha1", "testdata", "seed.yaml"))
	require.NoError(t, err)
	image := &v1alpha1.VMDiskImage{}
	require.NoError(t, yaml.UnmarshalStrict(text, image))
	seed := testAttempt()
	seed.spec.ImageSpec = image.Spec.ImageSpec

	config := &credentials.Credentials{Secret: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"registry.example.org":{"auth":"canary"}}}`)}}
	registry := testAttempt()
	registry.claim.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
	registry.spec.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{
		URL: "docker://registry.example.org/disks/debian:12", Content: v1alpha1.ImageContentRootfs,
		Platform: &v1alpha1.ImagePlatform{Architecture: "arm64"},
	}}
	registry.credentials = &credentials.Credentials{Secret: config.Secret, CA: &corev1.ConfigMap{Data: map[string]string{"ca.pem": "canary"}}}

	files := testAttempt()
	files.spec.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{
		URL: "docker://registry.example.org/tools:1", Content: v1alpha1.ImageContentFiles,
	}}

	node := testAttempt()
	node.spec.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{
		URL: "docker://registry.example.org/disks/debian:12", PullMethod: v1alpha1.PullMethodNode, Content: v1alpha1.ImageContentAuto,
	}}

	pinned := testAttempt()
	pinned.spec.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{
		URL:        "docker://registry.example.org/disk@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		PullMethod: v1alpha1.PullMethodNode, Content: v1alpha1.ImageContentDisk, Platform: &v1alpha1.ImagePlatform{Architecture: "arm64"},
	}}
	pinned.credentials, pinned.template = config, template
	return map[string]*attempt{"seed": seed, "registry": registry, "files": files, "node": node, "node-templated": pinned}
}

// cronAttempts are those of golden claims, and of a claim that is filled from what a DataImportCron has imported.
func cronAttempts(t *testing.T) map[string]*attempt {
	t.Helper()
	all := map[string]*attempt{}
	for name, claim := range map[string]*corev1.PersistentVolumeClaim{"golden": goldenClaim(revisionA()), "cron": cronClaim()} {
		spec := cronSpec(t, claim, testCron(revisionA(), revisionA()))
		a := testAttempt()
		a.claim, a.target, a.spec = claim, testPrime(claim), newImport(claim, spec).Spec
		all[name] = a
	}
	return all
}

func TestImportJob(t *testing.T) {
	for name, a := range attempts(t) {
		t.Run(name, func(t *testing.T) {
			job, err := importJob(a)
			require.NoError(t, err)
			got, err := yaml.Marshal(job)
			require.NoError(t, err)
			require.NotContains(t, string(got), "canary", "a secret is in the Job")

			golden := filepath.Join("testdata", "job-"+name+".yaml")
			if *update {
				require.NoError(t, os.WriteFile(golden, got, 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), string(got))
		})
	}
}

// TestImporterTakesItsArguments: the importer finds nothing wrong with the arguments that Jobs give it.
func TestImporterTakesItsArguments(t *testing.T) {
	for name, a := range attempts(t) {
		t.Run(name, func(t *testing.T) {
			options := a.options()
			require.NoError(t, options.Validate())
		})
	}
}

func TestImporterPodIsRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	for name, a := range attempts(t) {
		t.Run(name, func(t *testing.T) {
			job, err := importJob(a)
			require.NoError(t, err)
			pod := job.Spec.Template
			for _, check := range evaluator.EvaluatePod(psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
				require.True(t, check.Allowed, "%s: %s", check.ForbiddenReason, check.ForbiddenDetail)
			}
			require.False(t, *pod.Spec.AutomountServiceAccountToken)
			require.Equal(t, []string{finalizerPod}, pod.Finalizers)
			for _, c := range pod.Spec.Containers {
				require.NotEmpty(t, c.Resources.Limits.Memory().Value())
				require.NotEmpty(t, c.Resources.Requests.Cpu().MilliValue())
				require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
			}
		})
	}
}

func TestReadJobTemplateRefusesUnknownFields(t *testing.T) {
	path := filepath.Join(t.TempDir(), "template.yaml")
	require.NoError(t, os.WriteFile(path, []byte("spec: {tolerationz: []}"), 0o600))
	_, err := readJobTemplate(path)
	require.ErrorContains(t, err, "tolerationz")
}
