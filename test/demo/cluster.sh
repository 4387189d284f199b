#!/bin/bash
# cluster.sh - the part of the demo that needs a cluster. Called by with-cluster.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/step.sh
namespace=gild-demo
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
node=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
url=http://$node:18080/debian.qcow2
image=docker://$node:18443/demo/debian:12
want=$(cat "$DEMO/debian.raw.sha256")

get() { kubectl -n $namespace get "$1" -o jsonpath="$2"; }

# The samples, with the address of our own server.
samples() {
  cat > "$work/kustomization.yaml" <<END
namespace: $namespace
sortOptions: {order: fifo}
resources: [$(for name in vmdiskimage claim-filesystem claim-block; do realpath --relative-to="$work" "deploy/samples/$name.yaml"; done | paste -sd,)]
patches: [{target: {kind: VMDiskImage}, patch: '[{"op": "replace", "path": "/spec/source/http/url", "value": "$url"}]'}]
END
  kubectl kustomize --load-restrictor LoadRestrictionsNone "$work"
}

# The same disk as a container disk, as KubeVirt has them. The registry has a CA of its own.
registry() {
  cat <<END
apiVersion: virtualization.k8s.io/v1alpha1
kind: VMDiskImage
metadata: {name: debian-12-registry}
spec: {source: {registry: {url: "$image", certConfigMap: registry-ca}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: cache-1}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 4Gi}}
  dataSourceRef: {apiGroup: virtualization.k8s.io, kind: VMDiskImage, name: debian-12-registry}
END
}

push() {
  printf 'FROM scratch\nCOPY debian.qcow2 /disk/debian.qcow2\n' | tee "$work/Dockerfile"
  go run ./images/build -file "$work/Dockerfile" -context "$DEMO" -tag demo/debian:12 -output "$work/debian.tar" >/dev/null
  go run ./images/push "$work/debian.tar" 127.0.0.1:18081/demo/debian:12
}

fill() {
  kubectl delete namespace $namespace --ignore-not-found
  kubectl create namespace $namespace
  kubectl -n $namespace create configmap registry-ca --from-file="$work/registry/ca.crt"
  samples | kubectl apply -f -
  registry | kubectl -n $namespace apply -f -
  kubectl -n $namespace get vmdimp --watch &
  local watch=$!
  until kubectl -n $namespace wait pvc --all --for=jsonpath='{.status.phase}'=Bound --timeout=2s >/dev/null 2>&1; do
    case $(get vmdimp '{.items[*].status.phase}') in
    *Failed*)
      kubectl -n $namespace describe vmdimp
      return 1
      ;;
    esac
  done
  kill $watch
  echo
  kubectl -n $namespace get vmdimp,pvc
}

tell() {
  kubectl -n $namespace get events --field-selector involvedObject.kind=PersistentVolumeClaim,involvedObject.name=web-1 \
    -o custom-columns=TYPE:.type,REASON:.reason,MESSAGE:.message
}

prove() {
  sed "s,image: gild-imageserver,image: $GILD_IMAGES/gild-imageserver:$GILD_TAG,; s,SIZE,$(stat -c %s "$DEMO/debian.raw")," \
    test/demo/readers.yaml | kubectl -n $namespace apply -f -
  kubectl -n $namespace wait pod --all --for=jsonpath='{.status.phase}'=Succeeded --timeout=5m
}

table() {
  local claim status=0
  local row='%-7s  %-10s  %-9s  %-6s  %7s  %6s  %7s  %s\n'
  # shellcheck disable=SC2059 # the format is above
  printf "$row" CLAIM MODE PHASE SOURCE FETCHED DISK SECONDS 'SHA256 OF THE DISK ON THE VOLUME'
  for claim in web-1 db-1 cache-1; do
    local report fields same='NOT the source'
    report=$(get "pod/read-$claim" '{.status.containerStatuses[0].state.terminated.message}')
    case $report in
    *"\"sha256\":\"$want\""*) same="${want:0:16}…, the source's" ;;
    *) status=1 ;;
    esac
    fields='{.status.phase} {.status.result.sourceFormat} {.status.result.transferredBytes} {.status.result.virtualSize} {.status.result.seconds}'
    # shellcheck disable=SC2046,SC2059 # one word per field; the format is above
    printf "$row" $claim "$(get "pvc/$claim" '{.spec.volumeMode}')" \
      $(get "vmdimp/$claim" "$fields" | numfmt --field 3-4 --to iec-i --suffix B) "$same"
  done
  return $status
}

# A golden image that follows a file. Its disk is the beginning of the Debian disk, and a little more of it after the change.
golden() {
  head -c 32M "$DEMO/debian.raw" > "$DEMO/golden.raw"
  sed "s,url: .*,url: http://$node:18080/golden.raw,; s,storage: .*,storage: 128Mi," deploy/samples/dataimportcron.yaml | kubectl -n $namespace apply -f -
  kubectl -n $namespace wait dic/debian-12 --for=condition=UpToDate --timeout=3m
  kubectl -n $namespace get dic,das
}

roll() {
  local first now
  first=$(get das/debian-12 '{.spec.source.pvc.name}')
  head -c 48M "$DEMO/debian.raw" > "$DEMO/golden.part"
  mv "$DEMO/golden.part" "$DEMO/golden.raw"
  kubectl -n $namespace annotate dic/debian-12 gild.dev/poll-now="$(date)"
  for _ in $(seq 180); do
    now=$(get das/debian-12 '{.spec.source.pvc.name}')
    [ "$now" = "$first" ] || break
    sleep 1
  done
  kubectl -n $namespace get dic,das
  kubectl -n $namespace get pvc --selector cdi.kubevirt.io/dataImportCron=debian-12
  kubectl -n $namespace get events --field-selector involvedObject.kind=DataImportCron \
    -o custom-columns=TYPE:.type,REASON:.reason,MESSAGE:.message
  [ "$now" != "$first" ]
}

# Three machines from the golden image, each with a volume of its own.
machines() {
  local n
  for n in 1 2 3; do
    sed "s,name: web-3,name: vm-$n,; s,storage: .*,storage: 160Mi," deploy/samples/datasource-claim.yaml
    echo ---
  done | kubectl -n $namespace apply -f -
  kubectl -n $namespace wait pvc/vm-1 pvc/vm-2 pvc/vm-3 --for=jsonpath='{.status.phase}'=Bound --timeout=3m
  kubectl -n $namespace get vmdimp vm-1 vm-2 vm-3
}

# The block volume is a file of this machine: the test cluster's storage keeps it there.
boot() {
  kubectl -n $namespace delete pod --all
  local volume
  volume=$(kubectl get pv "$(get pvc/db-1 '{.spec.volumeName}')" -o jsonpath='{.spec.csi.volumeHandle}')
  test/demo/boot.sh "${KUBECONFIG%/*}/volumes/$volume.img" "$DEMO/console.log"
}

test/demo/serve.sh "$DEMO" "$node:18080" &
mkdir "$work/registry"
"$GILD_CACHE/images/gild-registry/registry" --dir "$work/registry" --host "$node" --control 127.0.0.1:18081 --tls "$node:18443" 2>"$work/registry.log" &
step "installing Gild: kubectl apply -k deploy and deploy/cdi, with the images just built" test/demo/deploy.sh
step "pushing the disk as a container disk to a registry of this machine" push
step "applying VMDiskImages for $url and $image, and three claims that name them" fill
step "what the events of the claim web-1 tell" tell
step "reading the volumes back in pods" prove
step "the result" table
step "applying a DataImportCron for http://$node:18080/golden.raw" golden
step "changing the file, and having it polled at once" roll
step "starting three machines from the golden image: claims of its DataSource" machines
if [ "${BOOT:-1}" != 0 ]; then
  step "booting the block volume with software emulation, to its login prompt (half a minute)" boot
fi
if [ "${KEEP:-}" != 1 ]; then
  step "removing the claims, their volumes with them" kubectl delete namespace $namespace
fi
