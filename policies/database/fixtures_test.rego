# What the tests start from: a Database for production, as the host hands it over, in which no rule finds anything.
package database.fixtures_test

import rego.v1

pod := {
	"set": "orders-g1",
	"readable": true,
	"automountServiceAccountToken": false,
	"securityContext": security_of_pod,
	"hostPaths": [],
	"projected": [],
}

security_of_pod := {
	"fsGroup": 999,
	"runAsGroup": 999,
	"runAsNonRoot": true,
	"runAsUser": 999,
	"seccompProfile": {"type": "RuntimeDefault"},
}

container(name, kind) := {
	"name": name,
	"kind": kind,
	"image": "docker.io/library/postgres:16.14-bookworm",
	"registry": "docker.io",
	"repository": "docker.io/library/postgres",
	"tag": "16.14-bookworm",
	"ports": [{"name": "postgresql", "containerPort": 5432}],
	"resources": resources,
	"securityContext": {
		"allowPrivilegeEscalation": false,
		"capabilities": {"drop": ["ALL"]},
		"readOnlyRootFilesystem": true,
	},
	"podSecurityContext": security_of_pod,
}

resources := {
	"limits": {"cpu": "2", "memory": "4Gi"},
	"requests": {"cpu": "2", "memory": "4Gi"},
}

good := {
	"operation": "CREATE",
	"dryRun": false,
	"source": "admission",
	"namespace": {"name": "shop", "labels": {"intent.example.com/environment": "production"}},
	"object": {
		"apiVersion": "intent.example.com/v1",
		"kind": "Database",
		"metadata": {"name": "orders", "namespace": "shop"},
		"spec": {
			"engine": "postgresql",
			"version": "16",
			"resources": {
				"limits": {"cpu": "2", "memory": "4Gi"},
				"requests": {"cpu": "2", "memory": "4Gi", "storage": "50Gi"},
			},
			"highAvailability": true,
			"deletionPolicy": "Retain",
			"backupPolicy": {"schedule": "0 2 * * *", "timeZone": "UTC", "retention": "30d"},
			"monitoring": {"enabled": true},
		},
	},
	"children": [],
	"norm": {
		"requests": {"cpu": 2000, "memory": 4294967296, "storage": 53687091200},
		"limits": {"cpu": 2000, "memory": 4294967296},
		"version": {"major": "16", "known": true, "release": "16.14", "endOfLife": "2028-11-09", "daysToEndOfLife": 712},
		"backup": {"scheduleValid": true, "intervalMinutes": 1440, "longestIntervalMinutes": 1440, "retentionValid": true, "retentionDays": 30, "retentionDaysAtMost": 30},
		"environment": {"name": "production", "source": "label"},
		"pods": [pod],
		"containers": [container("database", "containers"), container("initialise", "initContainers")],
		"unparsable": [],
	},
	"levels": [{"kind": "global", "name": ""}, {"kind": "environment", "name": "production"}],
	"settings": {
		"max": {
			"cpu": {"value": 8000, "text": "8000m", "level": "environment/production"},
			"memory": {"value": 34359738368, "text": "32Gi", "level": "environment/production"},
			"storage": {"value": 2199023255552, "text": "2Ti", "level": "environment/production"},
			"backup_interval_minutes": {"value": 1500, "text": "1500", "level": "environment/production"},
			"retention_days": {"value": 3660, "text": "3660", "level": "global"},
		},
		"min": {
			"backup_interval_minutes": {"value": 15, "text": "15", "level": "global"},
			"retention_days": {"value": 7, "text": "7", "level": "environment/production"},
		},
		"allow": {
			"engines": {"value": ["postgresql", "redis"], "level": "global"},
			"registries": {"value": ["docker.io/library", "quay.io"], "level": "global"},
		},
		"require": {
			"backup": {"value": true, "level": "environment/production"},
			"high_availability": {"value": true, "level": "environment/production"},
			"monitoring": {"value": true, "level": "environment/production"},
			"limits": {"value": true, "level": "global"},
		},
	},
}

# The good input with one change, or several. A path is written as in JSON Pointer.
changed(changes) := json.patch(good, changes)

put(path, value) := {"op": "add", "path": path, "value": value}

drop(path) := {"op": "remove", "path": path}

# Where things are in it.
in_pod(field) := concat("/", ["/norm/pods/0", field])

in_container(field) := concat("/", ["/norm/containers/0", field])

in_init(field) := concat("/", ["/norm/containers/1", field])

# Changes of the pod's security context, which stands with each container too.
in_pod_security(change) := [object.union(change, {"path": concat("", [place, change.path])}) |
	some place in [in_pod("securityContext"), in_container("podSecurityContext"), in_init("podSecurityContext")]
]
