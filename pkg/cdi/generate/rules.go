package main

import "strings"

// The rules are those of CDI's webhooks, in CDI's words where it has words, and those of our
// VMDiskImport, which holds what a cron asks for. Where they differ from CDI's, the comment
// says why.

func cronRules() []change {
	rules := []change{
		rule("", "self.metadata.name.size() <= 63", "Name cannot be longer than 63 characters"),
		longest("spec.schedule", 256),
		rule("spec.schedule", "self == '' || self.matches(r'"+schedule()+"')",
			"Illegal cron schedule: write five fields such as 30 1 * * 1, or @daily, @every 6h and the like, with CRON_TZ=Zone before them for another time zone than UTC; or leave it empty and set the annotation cdi.kubevirt.io/storage.import.sourceDesiredDigest by hand"),
		longest("spec.garbageCollect", 16),
		rule("spec.garbageCollect", "self in ['Outdated', 'Never']", "Illegal GarbageCollect value: Outdated or Never"),
		longest("spec.retentionPolicy", 16),
		rule("spec.retentionPolicy", "self in ['None', 'All']", "Illegal RetentionPolicy value: None or All"),
		// CDI takes 0, and then deletes the current import too.
		rule("spec.importsToKeep", "self >= 1", "Illegal ImportsToKeep value: at least 1, which is the current import"),
		longest("spec.managedDataSource", 63),
		rule("spec.managedDataSource", "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
			"Illegal ManagedDataSource value: a name of at most 63 lower-case letters, digits and hyphens, with no hyphen at an end"),
		longest("spec.serviceAccountName", 253),
	}
	rules = append(rules, templateRules("spec.template.spec")...)
	rules = append(rules, httpRules("spec.template.spec.source.http", "polled")...)
	rules = append(rules, registryRules("spec.template.spec.source.registry")...)
	rules = append(rules, claimRules("spec.template.spec.source.pvc")...)
	for kind, path := range forms("spec.template.spec") {
		rules = append(rules, volumeRules(path, kind)...)
		rules = append(rules,
			rule(path, sized, kind+" size is missing: say it in resources.requests.storage"),
			rule(path, "!has(self.dataSource) && !has(self.dataSourceRef)",
				"External population is incompatible with DataImportCrons: leave dataSource and dataSourceRef out"),
			// CDI takes a volume, and then the second import waits for ever.
			rule(path, "!has(self.volumeName)", "volumeName does not go with a DataImportCron: each import gets a volume of its own"))
	}
	// A StorageProfile or the default give the access mode where there is none; CDI asks for it.
	return append(rules, singleAccessMode("spec.template.spec.pvc"))
}

func singleAccessMode(path string) change {
	return rule(path, "!has(self.accessModes) || self.accessModes.size() <= 1",
		"PVC multiple accessModes: name one, or none for the one that the StorageProfile recommends")
}

func templateRules(path string) []change {
	return []change{
		rule(path, "has(self.source) && (has(self.source.http) || has(self.source.registry) || has(self.source.pvc))",
			"Missing source: name http, registry or pvc in source; a DataImportCron polls no other"),
		rule(path, "!has(self.source) || "+sources("self.source")+" <= 1",
			"Multiple Data volume sources: name exactly one of http, registry and pvc"),
		rule(path, "!has(self.sourceRef) && !has(self.contentType) && (!has(self.checkpoints) || self.checkpoints.size() == 0) && !(has(self.finalCheckpoint) && self.finalCheckpoint)",
			"Unsettable fields: SourceRef, ContentType, Checkpoints, FinalCheckpoint"),
		oneForm(path), noForm(path),
	}
}

// sources is how many sources an object names.
func sources(object string) string {
	var named []string
	for _, source := range []string{"http", "registry", "pvc", "s3", "gcs", "upload", "blank", "imageio", "vddk", "snapshot"} {
		named = append(named, "has("+object+"."+source+")")
	}
	return "[" + strings.Join(named, ", ") + "].filter(named, named).size()"
}

func noForm(path string) change {
	return rule(path, "has(self.pvc) || has(self.storage)", "Missing Data volume PVC: say what volume is wanted in storage or pvc")
}

func oneForm(path string) change {
	return rule(path, "!has(self.pvc) || !has(self.storage)", "Duplicate storage definition, both target storage and target pvc defined: keep one")
}

// forms are the two in which a volume is asked for: what messages call them, and where they are.
func forms(spec string) map[string]string {
	return map[string]string{"PVC": spec + ".pvc", "Storage": spec + ".storage"}
}

// login is a user name, and maybe a password, in a URL.
const login = `^[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*@`

// httpRules are those of a file that is done so, such as polled.
func httpRules(path, done string) []change {
	url := path + ".url"
	return []change{
		longest(url, 2048),
		// The API server repeats what a rule of the url itself refuses, so one with a password is refused elsewhere.
		rule(path, "!self.url.matches('"+login+"')",
			"Invalid source URL: it must not hold a user name or password: put them in a Secret and name it in secretRef"),
		rule(url, "self.matches('"+login+"') || !self.matches('^[a-zA-Z][a-zA-Z0-9+.-]*:') || self.matches('^(?i:https?):')",
			"Invalid source URL scheme: only http:// and https:// are "+done+" here; an image that is elsewhere, such as on an FTP server, must be served over one of them, or pushed to a registry and named in registry"),
		rule(url, "self.matches('"+login+"') || self.matches('^[a-zA-Z][a-zA-Z0-9+.-]*:') && !self.matches('^(?i:https?):') || isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != ''",
			"Invalid source URL: it must be an http:// or https:// URL with a host"),
		longest(path+".secretRef", 253),
		longest(path+".certConfigMap", 253),
		most(path+".extraHeaders", 16),
		longest(path+".extraHeaders.[]", 1024),
		rule(path+".extraHeaders", "self.all(header, header.matches(r'''^[A-Za-z0-9!#$%&'*+.^_|~-]+:[^\\r\\n]*$'''))", `each of extraHeaders must be "Name: value"`),
		most(path+".secretExtraHeaders", 16),
		longest(path+".secretExtraHeaders.[]", 253),
		longest(path+".checksum", 135),
		// CDI takes md5 and sha1 too, which anyone can forge.
		rule(path+".checksum", "self == '' || self.matches('^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$')",
			"checksum must be sha256: and 64, or sha512: and 128 lower-case hex digits: md5 and sha1 prove nothing"),
	}
}

func registryRules(path string) []change {
	url, stream := path+".url", path+".imageStream"
	// A host, a path in lower case, and maybe a tag and a digest. The host is needed: there is no
	// registry that a short name would mean.
	const (
		host = `((localhost|[a-zA-Z0-9-]+([.][a-zA-Z0-9-]+)+|[[][0-9a-fA-F:]+[]])(:[0-9]+)?|[a-zA-Z0-9-]+:[0-9]+)`
		name = `(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)+`
		tag  = `(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})`
		sum  = `(@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))`
	)
	return []change{
		rule(path, "has(self.url) != has(self.imageStream)", "Source registry should have either URL or ImageStream"),
		rule(path, "!has(self.imageStream) || has(self.pullMethod) && self.pullMethod == 'node'",
			"Source registry ImageStream is supported only with node pull import method: add pullMethod: node"),
		longest(url, 1024),
		rule(url, "self.matches('"+login+"') || self.startsWith('docker://')",
			"Illegal registry source URL scheme: write docker://host/name[:tag][@digest]; an oci-archive, which is a file, must be pushed to a registry first"),
		rule(path, "!has(self.url) || !self.url.matches('"+login+"')",
			"Illegal registry source URL: it must not hold a user name or password: put them in a Secret and name it in secretRef"),
		rule(url, "!self.startsWith('docker://') || self.matches('"+login+"') || self.matches('^docker://"+host+name+tag+"?"+sum+"?$')",
			"Illegal registry source URL: it must be docker://host/name[:tag][@digest] in lower case, and say its registry's host, such as docker://registry.example.org/disks/debian:12"),
		longest(stream, 384),
		rule(stream, "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?"+tag+"?$')",
			"Source registry ImageStream is not valid: it must be name or name:tag"),
		longest(path+".pullMethod", 16),
		rule(path+".pullMethod", "self in ['pod', 'node']", "ImportMethod is neither pod nor node"),
		longest(path+".secretRef", 253),
		longest(path+".certConfigMap", 253),
		longest(path+".platform.architecture", 32),
		rule(path+".platform.architecture", "self.matches('^[a-z0-9]*$')", "architecture must be as image indexes name it, such as amd64 or arm64"),
	}
}

func claimRules(path string) []change { return originRules(path, "PVC") }

func originRules(path, kind string) []change {
	return []change{
		longest(path+".namespace", 63),
		longest(path+".name", 253),
		rule(path, "self.namespace != '' && self.name != ''", "source "+kind+" is not valid: it needs a namespace and a name"),
	}
}

// sized says that a form tells its size.
const sized = "has(self.resources) && has(self.resources.requests) && 'storage' in self.resources.requests"

func volumeRules(path, kind string) []change {
	return []change{
		rule(path, "!("+sized+") || quantity(string(self.resources.requests['storage'])).isGreaterThan(quantity('0'))",
			kind+" size can't be equal or less than zero"),
		most(path+".accessModes", 4),
		longest(path+".accessModes.[]", 32),
		rule(path+".accessModes", "self.all(mode, mode in ['ReadWriteOnce', 'ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOncePod'])",
			`Unsupported value in accessModes: supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`),
		longest(path+".storageClassName", 253),
		// CDI takes an empty class, and then never makes the claim.
		rule(path+".storageClassName", "self != ''", "storageClassName must not be empty: leave it out for the default StorageClass"),
	}
}

func sourceRules() []change {
	return []change{
		rule("spec.source", "[has(self.pvc), has(self.snapshot), has(self.dataSource)].filter(named, named).size() <= 1",
			"name at most one source: pvc, snapshot or dataSource"),
	}
}

// schedule is the form of what robfig/cron's ParseStandard takes, with the range of each
// number. What no expression can tell, such as that a range ends before it begins or that
// there is no such zone, the poller reports. It keeps a zone without a schedule from the
// parser, which cannot bear it.
func schedule() string {
	field := func(value string) string {
		item := `([*?]|V(-V)?)(/0*[1-9][0-9]{0,8})?`
		return strings.ReplaceAll(item+`(,`+item+`)*`, "V", value)
	}
	fields := strings.Join([]string{
		field(`0*[1-5]?[0-9]`),
		field(`0*(1?[0-9]|2[0-3])`),
		field(`0*([1-9]|[12][0-9]|3[01])`),
		field(`(0*([1-9]|1[0-2])|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))`),
		field(`(0*[0-6]|(?i:sun|mon|tue|wed|thu|fri|sat))`),
	}, `\s+`)
	return `^((CRON_)?TZ=[A-Za-z0-9_+/-]* \s*)?(\s*` + fields + `\s*` +
		`|@(yearly|annually|monthly|weekly|daily|midnight|hourly)` +
		`|@every \+?(([0-9]+[.]?[0-9]*|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`
}
