# Every recipe lives here; Taskfile.yml calls them. `make` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Build results, images and the demo's disk are kept here between runs.
export GILD_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gild
FUZZTIME ?= 30s
# Signatures of container images are checked in Go then, without GPG's C libraries. Without the tag all builds, and they are refused.
export GOFLAGS := $(GOFLAGS) -tags=containers_image_openpgp

modules := $(patsubst %/go.mod,%,$(wildcard go.mod test/*/go.mod test/*/*/go.mod))
modules := $(subst go.mod,.,$(modules))
# Of these, the modules with code of ours; the others only pin programs.
code := . test/csi-loop test/registry
# Tests that take long with the race detector. What they run is raced by their neighbours.
longs := Matrix|ManyClustersAreReadInSlices|ManyClustersBeforeTheirTables|LiveImages|TwentyBreaks|KilledImportGoesOn|VolumeThatIsFullInBetween|CheckpointThatIsNotTrue|CheckpointThatCameBack|GigabyteOfZeros|Stories|ZeroRuns|ZeroRunsLargeWindow|ZeroRunsFlippedBits|ManyEntries|CutAnywhere|FlipAnywhere|Archivers|Bombs|FindCorpus|PassFindsEveryCut|PassReadsEveryLayout|TruncationNeverLosesData|ConvertsWhatQemuWrites|PassReadsWhatQemuWrites|GatesPassWhatQemuWrites|RollCrashesAtEveryWrite|RollFailsAtEveryWrite|RollLagsAtEveryWrite|CrashAtEveryWrite|CrashAtEveryWriteOfARestore|CrashAtEveryWriteOfACopy|CrashAtEveryWriteOfSharedImports|TablesThatChanged|FinalFailureLeavesNoCheckpoint|CheckpointThatCannotBeWritten|DeviceThatAToolWroteTo|CopyOfAServedVolumeGoesOn|CopyBeginsAnewWhenTheVolumeWasWritten|Device|SlowVolume|ClaimSizeSuffices|CompleteClearsTheTailOfADevice|DiscardedDeviceHoldsNoDisk|MergedRandom|FindRandom|RoundTrip|FlippedBits|ZeroRunsTruncated|VastEmptyDisk|ClusterThatEndsInTheNextPiece|SlicesThatChangeAreFound|Crashes
tool = "$$(go -C $(CURDIR)/test/tools tool -n $(1))"

.PHONY: help
help: ## list the recipes
	@awk -F ':.*## ' '/^##@/ {print substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

##@ code

.PHONY: generate
generate: ## make the CRDs and deep copies from the API types
	go generate ./pkg/...

.PHONY: fmt
fmt: ## format the code
	$(call tool,golangci-lint) fmt $(code)

.PHONY: tidy
tidy: ## tidy the go.mod of every module
	@for m in $(modules); do go -C $$m mod tidy; done

.PHONY: lint
lint: ## lint the code, and check who imports whom
	@for m in $(code); do (cd $$m && $(call tool,golangci-lint) run --allow-serial-runners); done

.PHONY: verify
verify: generate tidy fmt ## generate, tidy and format, then fail if that or anything else left a change
	@test/packages.sh verify
	@changes=$$(git status --porcelain); [ -z "$$changes" ] || { printf 'the tree is not clean:\n%s\n' "$$changes" >&2; git --no-pager diff | head -n 100; exit 1; }

##@ tests

.PHONY: test
test: test-unit test-corpus test-fuzz test-e2e ## all tests: test-unit, test-corpus, test-fuzz, then test-e2e

# Fresh memory costs the race detector half as much when it clears its notes on it in place: as it does by default,
# it gives them back to the kernel, and pays a page fault for each page. At the end of each of 60 programs it would
# wait a second for races of what still runs: a tenth is enough, and in nearly all of them goleak wants nothing to run.
.PHONY: test-unit
test-unit: export GORACE := $(GORACE) clear_shadow_mmap_threshold=1073741824 atexit_sleep_ms=100
# Collecting garbage a fourth as often saves the tests of controllers a third of their time.
test-unit: export GOGC ?= 400
test-unit: export GOMEMLIMIT ?= 2GiB
test-unit: ## unit tests with the race detector: no root, no network, no cluster
	@test/packages.sh unit
	@test/unit.sh '$(longs)' $(filter-out .,$(code))

.PHONY: test-corpus
test-corpus: ## run the importer over images with known outcomes, good and hostile; needs root
	@test/packages.sh corpus
	go test -tags corpus -count=1 -timeout 40m ./test/corpus

.PHONY: test-fuzz
test-fuzz: ## fuzz every parser for ten seconds each
	@test/packages.sh unit
	test/fuzz.sh 10s

.PHONY: test-e2e
test-e2e: ## end-to-end tests on a real cluster of their own, or on yours: KUBECONFIG=file REGISTRY=prefix; KEEP=1 keeps the cluster, TESTFLAGS='-run Name' runs some
	@test/packages.sh e2e
	test/with-cluster.sh test/end-to-end.sh

.PHONY: fuzz
fuzz: ## fuzz every parser for FUZZTIME=30s each
	test/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## measure imports beside other ways of importing, and the floor; BENCH=quick measures a tenth
	@test/packages.sh bench
	go run ./test/bench

.PHONY: scale
scale: ## measure the poller with 10,000 DataImportCrons and a real API server; half an hour; SCALEFLAGS='-crons 500 -quiet 3m' for less
	go run ./test/scale $(SCALEFLAGS)

.PHONY: bench-copies
bench-copies: ## measure 1, 10 and 50 claims of one golden image, each strategy, on the test cluster; COPIESFLAGS='-claims 1 -ways Snapshot' for less
	GILD_CLUSTER_REFLINK=1 test/with-cluster.sh test/copies/copies.sh

##@ images and clusters

.PHONY: images
images: ## build the container images, with Docker or without
	@test/packages.sh images
	images/image.sh gild-controller images/controller
	images/image.sh gild-importer images/importer

.PHONY: cluster-up
cluster-up: ## start the test cluster: a real Kubernetes on this machine; needs root
	go run ./test/cluster up

.PHONY: cluster-down
cluster-down: ## stop the test cluster
	go run ./test/cluster down

.PHONY: test-pod
test-pod: ## run a pod with an image volume on the test cluster, and keep both
	KEEP=1 test/with-cluster.sh test/imagevolume/pod.sh

.PHONY: test-feature-gate
test-feature-gate: ## prove that the feature ImageVolume works from end to end on the test cluster
	test/with-cluster.sh test/imagevolume/prove.sh

.PHONY: demo
demo: ## fill claims with a Debian disk, from a web server and a registry, and boot it; BOOT=0 skips the boot, KEEP=1 keeps the cluster
	@test/packages.sh demo
	test/demo/demo.sh

.PHONY: versions
versions: ## print the versions of the tools and of the cluster's programs
	@go version
	@go -C test/tools list -m -f '{{.Path}} {{.Version}}' github.com/go-task/task/v3 github.com/golangci/golangci-lint/v2 sigs.k8s.io/controller-tools
	@go run ./test/cluster versions

.PHONY: clean
clean: cluster-down ## stop the test cluster and remove all that the recipes made
	mkdir -p "$(GILD_CACHE)" && cd "$(GILD_CACHE)" && rm -rf bench bin cluster cluster.lock control-plane control-plane.lock copies corpus demo images scale
