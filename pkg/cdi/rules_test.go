package cdi_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gild-project/gild/test/definition"
)

const digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// cronFrom is a DataImportCron with a source, made of a valid one: change is merged into its spec.
func cronFrom(t *testing.T, source, change string) *unstructured.Unstructured {
	t.Helper()
	object := definition.Parse(t, `{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataImportCron, metadata: {name: fedora, namespace: golden-images}, spec: {
		template: {spec: {storage: {resources: {requests: {storage: 5Gi}}}}}, schedule: "30 1 * * 1", managedDataSource: fedora}}`)
	merge(object.Object, definition.Parse(t, `{kind: DataImportCron, spec: {template: {spec: {source: {`+source+`}}}}}`).Object)
	merge(object.Object, definition.Parse(t, `{kind: DataImportCron, spec: {`+change+`}}`).Object)
	return object
}

// merge puts what is in change into object, as a JSON merge patch does.
func merge(object, change map[string]any) {
	for key, value := range change {
		inner, isMap := value.(map[string]any)
		before, wasMap := object[key].(map[string]any)
		switch {
		case value == nil:
			delete(object, key)
		case isMap && wasMap:
			merge(before, inner)
		default:
			object[key] = value
		}
	}
}

const (
	fromHTTP     = `http: {url: "https://images.example.org/disk"}`
	fromRegistry = `registry: {url: "docker://registry.example.org/disks/fedora:40"}`
	fromStream   = `registry: {imageStream: fedora, pullMethod: node}`
	fromClaim    = `pvc: {namespace: images, name: disk}`
)

// refusals are tests of what is refused: source, change, and part of what it is refused for; empty when it is taken.
type refusals map[string]struct{ source, change, refused string }

// run creates what from makes of each source and change, an object of a kind.
func (tests refusals) run(t *testing.T, plural string, from func(t *testing.T, source, change string) *unstructured.Unstructured) {
	kind := loadKind(t, plural)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := kind.Create(t.Context(), from(t, test.source, test.change))
			if test.refused == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.refused)
			require.NotContains(t, err.Error(), "\n", "more than one thing is said: %v", err)
			require.NotContains(t, err.Error(), "secret@", "a password is repeated")
		})
	}
}

func TestTemplates(t *testing.T) {
	refusals{
		"http":                {fromHTTP, ``, ""},
		"registry":            {fromRegistry, ``, ""},
		"an image stream":     {fromStream, ``, ""},
		"a claim":             {fromClaim, ``, ""},
		"no source":           {``, `template: {spec: {source: null}}`, "Missing source"},
		"an empty source":     {``, ``, "Missing source"},
		"another source":      {`s3: {url: "https://images.example.org/disk"}`, ``, "Missing source: name http, registry or pvc"},
		"a snapshot":          {`snapshot: {namespace: a, name: b}`, ``, "Missing source"},
		"two sources":         {fromHTTP + `, ` + fromRegistry, ``, "Multiple Data volume sources"},
		"a source too many":   {fromHTTP + `, blank: {}`, ``, "Multiple Data volume sources"},
		"an unknown source":   {`ftp: {url: "ftp://images.example.org/disk"}`, ``, "unknown field"},
		"sourceRef":           {fromHTTP, `template: {spec: {sourceRef: {kind: DataSource, name: a}}}`, "Unsettable fields"},
		"contentType":         {fromHTTP, `template: {spec: {contentType: kubevirt}}`, "Unsettable fields"},
		"checkpoints":         {fromHTTP, `template: {spec: {checkpoints: [{previous: a, current: b}]}}`, "Unsettable fields"},
		"no checkpoints":      {fromHTTP, `template: {spec: {checkpoints: []}}`, ""},
		"finalCheckpoint":     {fromHTTP, `template: {spec: {finalCheckpoint: true}}`, "Unsettable fields"},
		"no finalCheckpoint":  {fromHTTP, `template: {spec: {finalCheckpoint: false}}`, ""},
		"metadata and status": {fromHTTP, `template: {metadata: {name: a, labels: {b: c}, annotations: {d: e}}, status: {}}`, ""},
		"what CDI allows":     {fromHTTP, `template: {spec: {preallocation: true, priorityClassName: a, serviceAccountName: b}}, serviceAccountName: c`, ""},
	}.run(t, "dataimportcrons", cronFrom)
}

func TestVolumes(t *testing.T) {
	const pvc = `template: {spec: {storage: null, pvc: {`
	const storage = `template: {spec: {storage: {`
	refusals{
		"pvc":                        {fromHTTP, pvc + `accessModes: [ReadWriteOnce], volumeMode: Block, resources: {requests: {storage: 5Gi}}}}}`, ""},
		"pvc without an access mode": {fromHTTP, pvc + `resources: {requests: {storage: 5Gi}}}}}`, ""},
		"a whole number of bytes":    {fromHTTP, pvc + `resources: {requests: {storage: 5368709120}}}}}`, ""},
		"neither":                    {fromHTTP, `template: {spec: {storage: null}}`, "Missing Data volume PVC"},
		"both":                       {fromHTTP, `template: {spec: {pvc: {resources: {requests: {storage: 5Gi}}}}}`, "Duplicate storage definition"},
		"pvc of no size":             {fromHTTP, pvc + `resources: {}}}}`, "PVC size is missing"},
		"pvc of another request":     {fromHTTP, pvc + `resources: {requests: {memory: 5Gi}}}}}`, "PVC size is missing"},
		"pvc without resources":      {fromHTTP, pvc + `}}}`, "PVC size is missing"},
		"pvc of size 0":              {fromHTTP, pvc + `resources: {requests: {storage: "0"}}}}}`, "PVC size can't be equal or less than zero"},
		"pvc of a size below 0":      {fromHTTP, pvc + `resources: {requests: {storage: -1Gi}}}}}`, "PVC size can't be equal or less than zero"},
		"pvc of a size of letters":   {fromHTTP, pvc + `resources: {requests: {storage: large}}}}}`, "storage"},
		"pvc of two access modes":    {fromHTTP, pvc + `accessModes: [ReadWriteOnce, ReadOnlyMany], resources: {requests: {storage: 5Gi}}}}}`, "PVC multiple accessModes"},
		"pvc of an unknown mode":     {fromHTTP, pvc + `accessModes: [ReadWrite], resources: {requests: {storage: 5Gi}}}}}`, "Unsupported value in accessModes"},
		"pvc with a data source":     {fromHTTP, pvc + `dataSource: {kind: PersistentVolumeClaim, name: a}, resources: {requests: {storage: 5Gi}}}}}`, "External population is incompatible"},
		"pvc with a volume":          {fromHTTP, pvc + `volumeName: pv-1, resources: {requests: {storage: 5Gi}}}}}`, "volumeName does not go with"},
		"pvc of an empty class":      {fromHTTP, pvc + `storageClassName: "", resources: {requests: {storage: 5Gi}}}}}`, "storageClassName must not be empty"},
		"pvc of a class":             {fromHTTP, pvc + `storageClassName: fast, resources: {requests: {storage: 5Gi}}}}}`, ""},
		"storage of two modes":       {fromHTTP, storage + `accessModes: [ReadWriteOnce, ReadOnlyMany]}}}`, ""},
		"storage of an unknown mode": {fromHTTP, storage + `accessModes: [rwo]}}}`, "Unsupported value in accessModes"},
		"storage of no size":         {fromHTTP, storage + `resources: null}}}`, "Storage size is missing"},
		"storage of size 0":          {fromHTTP, storage + `resources: {requests: {storage: 0Gi}}}}}`, "Storage size can't be equal or less than zero"},
		"storage with a data source": {fromHTTP, storage + `dataSourceRef: {kind: VMDiskImage, name: a}}}}`, "External population is incompatible"},
		"storage with a volume":      {fromHTTP, storage + `volumeName: pv-1}}}`, "volumeName does not go with"},
		"storage of an empty class":  {fromHTTP, storage + `storageClassName: ""}}}`, "storageClassName must not be empty"},
		"a claim without a size":     {fromClaim, storage + `resources: null}}}`, "Storage size is missing"},
	}.run(t, "dataimportcrons", cronFrom)
}

func TestFiles(t *testing.T) {
	http := func(url string) string { return `http: {url: "` + url + `"}` }
	refusals{
		"all of http":       {`http: {url: "http://images.example.org:8080/a/disk?b=c#d", secretRef: a, certConfigMap: b, extraHeaders: ["Accept: */*"], secretExtraHeaders: [c], checksum: "` + digest + `"}`, ``, ""},
		"a scheme in upper": {http("HTTPS://images.example.org/disk"), ``, ""},
		"an address":        {http("http://[2001:db8::1]/disk"), ``, ""},
		"ftp":               {http("ftp://images.example.org/disk"), ``, "Invalid source URL scheme: only http:// and https:// are polled here; an image that is elsewhere, such as on an FTP server"},
		"ftps":              {http("ftps://images.example.org/disk"), ``, "Invalid source URL scheme"},
		"a registry":        {http("docker://registry.example.org/disk"), ``, "pushed to a registry and named in registry"},
		"a file":            {http("file:///etc/passwd"), ``, "Invalid source URL scheme"},
		"no scheme":         {http("images.example.org/disk"), ``, "Invalid source URL: it must be"},
		"no host":           {http("http:///disk"), ``, "Invalid source URL: it must be"},
		"nothing":           {http(""), ``, "Invalid source URL: it must be"},
		"a blank":           {http(`http://images.example .org/disk`), ``, "Invalid source URL: it must be"},
		"a password":        {http("https://me:secret@images.example.org/disk"), ``, "put them in a Secret"},
		"a password of ftp": {http("ftp://me:secret@images.example.org/disk"), ``, "put them in a Secret"},
		"a broken password": {http("https://me:my secret@images.example.org/disk"), ``, "put them in a Secret"},
		"a user":            {http("https://me@images.example.org/disk"), ``, "put them in a Secret"},
		"an @ in the path":  {http("https://images.example.org/disk@2"), ``, ""},
		"too long":          {http("https://images.example.org/" + strings.Repeat("a", 2048)), ``, "2048"},
		"no url":            {`http: {secretRef: a}`, ``, "url: Required value"},
		"no header":         {`http: {url: "https://images.example.org/disk", extraHeaders: ["Accept"]}`, ``, `each of extraHeaders must be "Name: value"`},
		"two headers":       {`http: {url: "https://images.example.org/disk", extraHeaders: ["Accept: a\r\nHost: b"]}`, ``, `each of extraHeaders must be "Name: value"`},
		"a long sum":        {`http: {url: "https://images.example.org/disk", checksum: "sha512:` + strings.Repeat("0a", 64) + `"}`, ``, ""},
		"no sum":            {`http: {url: "https://images.example.org/disk", checksum: ""}`, ``, ""},
		"md5":               {`http: {url: "https://images.example.org/disk", checksum: "md5:d41d8cd98f00b204e9800998ecf8427e"}`, ``, "md5 and sha1 prove nothing"},
		"a short sum":       {`http: {url: "https://images.example.org/disk", checksum: "sha256:9f86"}`, ``, "checksum must be sha256:"},
		"an upper-case sum": {`http: {url: "https://images.example.org/disk", checksum: "` + "sha256:" + strings.ToUpper(digest[7:]) + `"}`, ``, "lower-case"},
	}.run(t, "dataimportcrons", cronFrom)
}

func TestImages(t *testing.T) {
	registry := func(url string) string { return `registry: {url: "` + url + `"}` }
	const disk = "docker://registry.example.org/disk"
	refusals{
		"all of a registry":       {`registry: {url: "` + disk + `", pullMethod: pod, secretRef: a, certConfigMap: b, platform: {architecture: arm64}}`, ``, ""},
		"certificates for a node": {`registry: {url: "` + disk + `", pullMethod: node, certConfigMap: b}`, ``, ""},
		"a digest":                {registry(disk + "@" + digest), ``, ""},
		"a tag and a digest":      {registry(disk + ":40@" + digest), ``, ""},
		"a port":                  {registry("docker://registry:5000/a/b__c/d-e.f:V_1.2-3"), ``, ""},
		"localhost":               {registry("docker://localhost/disk"), ``, ""},
		"an address":              {registry("docker://[2001:db8::1]:5000/disk"), ``, ""},
		"a short digest":          {registry(disk + "@sha256:9f86"), ``, "docker://host/name"},
		"a short url":             {registry("docker://fedora:40"), ``, "say its registry's host"},
		"a folder for a host":     {registry("docker://library/fedora:40"), ``, "say its registry's host"},
		"upper case":              {registry("docker://registry.example.org/Disk"), ``, "lower case"},
		"no scheme":               {registry("registry.example.org/disk"), ``, "Illegal registry source URL scheme"},
		"another scheme":          {registry("joker://registry.example.org/disk"), ``, "Illegal registry source URL scheme"},
		"an archive":              {registry("oci-archive:///disk.tar"), ``, "must be pushed to a registry first"},
		"a password":              {registry("docker://me:secret@registry.example.org/disk"), ``, "put them in a Secret"},
		"a password elsewhere":    {registry("https://me:secret@registry.example.org/disk"), ``, "put them in a Secret"},
		"too long":                {registry(disk + strings.Repeat("a", 1024)), ``, "1024"},
		"neither":                 {`registry: {}`, ``, "Source registry should have either URL or ImageStream"},
		"both":                    {`registry: {url: "` + disk + `", imageStream: a, pullMethod: node}`, ``, "Source registry should have either URL or ImageStream"},
		"a stream for a pod":      {`registry: {imageStream: fedora, pullMethod: pod}`, ``, "only with node pull import method"},
		"a stream for the rest":   {`registry: {imageStream: fedora}`, ``, "only with node pull import method"},
		"a stream's tag":          {`registry: {imageStream: "fedora:40", pullMethod: node}`, ``, ""},
		"a stream of no name":     {`registry: {imageStream: "", pullMethod: node}`, ``, "Source registry ImageStream is not valid"},
		"a stream of two tags":    {`registry: {imageStream: "a:b:c", pullMethod: node}`, ``, "Source registry ImageStream is not valid"},
		"a stream of only a tag":  {`registry: {imageStream: "name:", pullMethod: node}`, ``, "Source registry ImageStream is not valid"},
		"a stream elsewhere":      {`registry: {imageStream: other/fedora, pullMethod: node}`, ``, "Source registry ImageStream is not valid"},
		"another pull method":     {`registry: {url: "` + disk + `", pullMethod: kubelet}`, ``, "ImportMethod is neither pod nor node"},
		"another platform":        {`registry: {url: "` + disk + `", platform: {architecture: linux/arm64}}`, ``, "amd64 or arm64"},
		"a claim of no name":      {`pvc: {namespace: a, name: ""}`, ``, "source PVC is not valid"},
		"a claim of no namespace": {`pvc: {name: a}`, ``, "namespace: Required value"},
	}.run(t, "dataimportcrons", cronFrom)
}

func TestCrons(t *testing.T) {
	refusals{
		"Outdated":               {fromHTTP, `garbageCollect: Outdated, importsToKeep: 1, retentionPolicy: None`, ""},
		"Never":                  {fromHTTP, `garbageCollect: Never, importsToKeep: 2147483647, retentionPolicy: All`, ""},
		"another garbageCollect": {fromHTTP, `garbageCollect: nosuch`, "Illegal GarbageCollect value"},
		"another retention":      {fromHTTP, `retentionPolicy: Some`, "Illegal RetentionPolicy value"},
		"keep none":              {fromHTTP, `importsToKeep: 0`, "Illegal ImportsToKeep value"},
		"keep less than none":    {fromHTTP, `importsToKeep: -1`, "Illegal ImportsToKeep value"},
		"no DataSource":          {fromHTTP, `managedDataSource: ""`, "Illegal ManagedDataSource value"},
		"a missing DataSource":   {fromHTTP, `managedDataSource: null`, "managedDataSource: Required value"},
		"a long DataSource":      {fromHTTP, `managedDataSource: ` + strings.Repeat("a", 64), "63"},
		"a longest DataSource":   {fromHTTP, `managedDataSource: ` + strings.Repeat("a", 63), ""},
		"a DataSource in upper":  {fromHTTP, `managedDataSource: Fedora`, "Illegal ManagedDataSource value"},
		"a DataSource with dots": {fromHTTP, `managedDataSource: fedora.40`, "Illegal ManagedDataSource value"},
		"a hyphen at the end":    {fromHTTP, `managedDataSource: fedora-`, "Illegal ManagedDataSource value"},
		"no service account":     {fromHTTP, `serviceAccountName: ""`, "serviceAccountName"},
		"no schedule":            {fromHTTP, `schedule: null`, "schedule: Required value"},
		"an empty schedule":      {fromHTTP, `schedule: ""`, ""},
	}.run(t, "dataimportcrons", cronFrom)
}

func TestNames(t *testing.T) {
	crons := loadKind(t, "dataimportcrons")
	object := cronFrom(t, fromHTTP, ``)
	object.SetName(strings.Repeat("a", 63))
	require.NoError(t, crons.Create(t.Context(), object))
	object.SetName(strings.Repeat("a", 64))
	require.ErrorContains(t, crons.Create(t.Context(), object), "Name cannot be longer than 63 characters")
}

// CDI lets nobody edit a spec. The seeds' manifests have one name, so the second is an edit of the first.
func TestSpecsMayBeEdited(t *testing.T) {
	crons := loadKind(t, "dataimportcrons")
	before := cronFrom(t, fromHTTP, ``)
	require.NoError(t, crons.Create(t.Context(), before))
	require.NoError(t, crons.Update(t.Context(), cronFrom(t, fromRegistry, `schedule: "@daily", importsToKeep: 1, managedDataSource: other`), before))
	require.ErrorContains(t, crons.Update(t.Context(), cronFrom(t, fromRegistry, `schedule: daily`), before), "Illegal cron schedule")
}

func TestDataSources(t *testing.T) {
	sources := loadKind(t, "datasources")
	for name, test := range map[string]struct{ source, refused string }{
		"none":        {``, ""},
		"a claim":     {`pvc: {namespace: a, name: b}`, ""},
		"a snapshot":  {`snapshot: {namespace: a, name: b}`, ""},
		"another":     {`dataSource: {namespace: a, name: b}`, ""},
		"two":         {`pvc: {namespace: a, name: b}, dataSource: {namespace: a, name: b}`, "at most one source"},
		"half a name": {`pvc: {name: b}`, "namespace: Required value"},
	} {
		t.Run(name, func(t *testing.T) {
			err := sources.Create(t.Context(), definition.Parse(t, `{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataSource, metadata: {name: fedora}, spec: {source: {`+test.source+`}}}`))
			if test.refused == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.refused)
		})
	}
}
