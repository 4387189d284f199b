#!/bin/bash
# deploy.sh - installs Gild from deploy/ and deploy/cdi with the images $GILD_IMAGES/…:$GILD_TAG, as a user's own overlay would.
set -euo pipefail
cd "$(dirname "$0")/../.."
overlay=$(mktemp -d)
trap 'rm -rf "$overlay"' EXIT
cat > "$overlay/kustomization.yaml" <<END
resources: [$(realpath --relative-to="$overlay" deploy deploy/cdi | paste -sd,)]
images:
- {name: gild-controller, newName: $GILD_IMAGES/gild-controller, newTag: $GILD_TAG}
patches:
- target: {kind: Deployment, name: gild-populator}
  patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: gild-populator}
    spec:
      template:
        spec:
          containers:
          - name: populator
            env:
            - {name: IMPORTER_IMAGE, value: "$GILD_IMAGES/gild-importer:$GILD_TAG"}
END
kubectl apply -k "$overlay"
kubectl -n gild-system rollout status deployment/gild-populator --timeout=3m
kubectl -n gild-system rollout status deployment/gild-poller --timeout=3m
