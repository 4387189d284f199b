package main

// The descriptions are those of CDI's Go types. Where these have none, speak of what CDI does
// and Gild does not, or leave out what a user must know, ours stand here. The API server allows
// none for the metadata of an object.

func cronWords() []change {
	texts := conditionWords("status.conditions")
	texts = append(texts, conditionWords("spec.template.status.conditions")...)
	return append(texts,
		words("", "DataImportCron keeps a golden image fresh: it polls a source on a schedule, imports each new revision into a claim of its own, and then lets a DataSource name that claim."),
		words("spec", "spec says what is polled, when, and what is made of it. It may be edited."),
		words("spec.schedule", "schedule says when the source is polled: five fields (minute, hour, day of month, month, day of week) such as \"30 1 * * 1\", or one of @hourly, @daily, @weekly, @monthly, @yearly and @every DURATION. The time zone is UTC, or the one in a prefix such as \"CRON_TZ=Europe/Vienna \". The first poll is at once. With an empty schedule there is none: set the annotation cdi.kubevirt.io/storage.import.sourceDesiredDigest to import a revision."),
		words("spec.garbageCollect", "garbageCollect says whether old claims are deleted after an import: Outdated deletes all but the importsToKeep newest by use, Never deletes none. The default is Outdated."),
		words("spec.importsToKeep", "importsToKeep is how many claims are kept, the current one included: at least 1. The default is 3."),
		words("spec.managedDataSource", "managedDataSource is the name of the DataSource, in the same namespace, that names the current claim. It is made when there is none, and left alone when it belongs to someone else. The claims are named after it."),
		words("spec.retentionPolicy", "retentionPolicy says what becomes of the claims and the DataSource when the DataImportCron is deleted: All keeps them, None deletes them too. The default is All."),
		words("spec.serviceAccountName", "serviceAccountName is the service account that must be allowed to read a claim that is the source in another namespace. The default is \"default\"."),
		words("spec.template", "template says where the image comes from and what claim it is imported into. Its metadata is not used."),
		words("spec.template.metadata", "metadata is kept but not used: claims take their labels from the DataImportCron."),
		words("spec.template.metadata.annotations", "annotations are kept but not used."),
		words("spec.template.metadata.finalizers", "finalizers are kept but not used."),
		words("spec.template.metadata.labels", "labels are kept but not used."),
		words("spec.template.metadata.name", "name is kept but not used."),
		words("spec.template.metadata.namespace", "namespace is kept but not used."),
		words("spec.template.status", "status is kept but not used."),
		words("spec.template.status.conditions", "conditions are kept but not used."),
		words("spec.template.spec.source", "source is where the image comes from: exactly one of http, registry and pvc."),
		words("spec.template.spec.source.http.url", "url of the image, beginning with http:// or https://. A user name or password does not belong in it: use secretRef."),
		words("spec.template.spec.source.http.secretRef", "secretRef names a Secret in this namespace with the credentials: accessKeyId and secretKey (or username and password) for basic authentication, or token for a bearer token."),
		words("spec.template.spec.source.http.certConfigMap", "certConfigMap names a ConfigMap in this namespace whose values are PEM certificates to trust besides the system's own."),
		words("spec.template.spec.source.http.checksum", "checksum of the image as it is served: sha256: and 64, or sha512: and 128 lower-case hex digits. An image with another checksum is refused."),
		words("spec.template.spec.source.registry.url", "url of the image: docker://host/name[:tag][@digest]. Without tag and digest the tag is latest. A user name or password does not belong in it: use secretRef."),
		words("spec.template.spec.source.registry.imageStream", "imageStream names an OpenShift ImageStream in this namespace, as name or name:tag. Only with pullMethod node."),
		words("spec.template.spec.source.registry.pullMethod", "pullMethod says who pulls the image: pod (the importer) or node (the kubelet). The default is pod."),
		words("spec.template.spec.source.registry.secretRef", "secretRef names a Secret in this namespace with the credentials: one of type kubernetes.io/dockerconfigjson, or accessKeyId and secretKey (or username and password)."),
		words("spec.template.spec.source.registry.certConfigMap", "certConfigMap names a ConfigMap in this namespace whose values are PEM certificates to trust besides the system's own. With pullMethod node the poll trusts them; the kubelet trusts what its node trusts."),
		words("spec.template.spec.source.registry.platform.architecture", "architecture chooses among the images of an index, such as amd64 or arm64. The default is that of the node that imports."),
		words("spec.template.spec.source.pvc", "pvc copies a claim whenever another one has its name."),
		words("spec.template.spec.pvc", "pvc is the spec of the claims, as it is. Exactly one of pvc and storage is needed."),
		words("spec.template.spec.storage", "storage is the spec of the claims, whose size is enlarged by what a file system needs, and whose access modes and volume mode come from the StorageProfile of the StorageClass when they are not said. Exactly one of pvc and storage is needed."),
		words("status", "status tells what has been polled and imported. Annotations of the object hold the rest."),
		words("status.conditions", "conditions: SourcePolled says how the last poll went, Progressing whether an import goes on, UpToDate whether the newest revision is imported."),
		words("status.currentImports", "currentImports holds the newest import, whether it goes on or is done."),
		words("status.currentImports.[].DataVolumeName", "DataVolumeName is the name of the claim that is imported into."),
		words("status.currentImports.[].Digest", "Digest of the revision that is imported."),
		words("status.lastImportedPVC", "lastImportedPVC is the claim that holds the newest import that succeeded."),
	)
}

func sourceWords() []change {
	return append(conditionWords("status.conditions"),
		words("", "DataSource is a name for the newest claim of a golden image."),
		words("spec", "spec says which claim, snapshot or other DataSource this one stands for."),
		words("spec.source", "source is what this DataSource stands for: at most one of pvc, snapshot and dataSource."),
		words("status", "status tells whether it can be used."),
		words("status.source", "source is the claim or snapshot that this DataSource leads to; empty while it is not ready."),
		words("status.conditions", "conditions: Ready says whether the source can be used."),
	)
}

func profileWords() []change {
	return append(conditionWords("status.conditions"),
		words("", "StorageProfile says which access modes and volume mode suit the StorageClass of its name."),
		words("status.conditions", "conditions of the StorageProfile, written by CDI."),
	)
}

func conditionWords(path string) []change {
	return []change{
		words(path+".[].status", "status of the condition: True, False or Unknown."),
		words(path+".[].reason", "reason of the status in one word."),
		words(path+".[].message", "message tells more, for people."),
		words(path+".[].lastTransitionTime", "lastTransitionTime is when the status changed last."),
		words(path+".[].lastHeartbeatTime", "lastHeartbeatTime is when the status, reason or message changed last."),
	}
}
