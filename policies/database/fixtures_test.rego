# What the tests start from: a Database for production, as the host hands it over, in which no rule finds anything.
package database.fixtures_test

import rego.v1

pod := {
	"automountServiceAccountToken": false,
	"containers": [container("database")],
	"initContainers": [container("initialise")],
	"securityContext": {
		"fsGroup": 999,
		"runAsGroup": 999,
		"runAsNonRoot": true,
		"runAsUser": 999,
		"seccompProfile": {"type": "RuntimeDefault"},
	},
	"volumes": [
		{"name": "config", "configMap": {"name": "orders-config"}},
		{"name": "run", "emptyDir": {"medium": "Memory"}},
	],
}

image := "docker.io/library/postgres:16.14-bookworm"

container(name) := {
	"name": name,
	"image": image,
	"ports": [{"name": "postgresql", "containerPort": 5432}],
	"resources": resources,
	"securityContext": {
		"allowPrivilegeEscalation": false,
		"capabilities": {"drop": ["ALL"]},
		"readOnlyRootFilesystem": true,
	},
}

resources := {
	"limits": {"cpu": "2", "memory": "4Gi"},
	"requests": {"cpu": "2", "memory": "4Gi"},
}

described(name, kind) := {
	"container": name,
	"kind": kind,
	"image": image,
	"registry": "docker.io",
	"repository": "docker.io/library/postgres",
	"tag": "16.14-bookworm",
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
	"children": [
		{"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false},
		{
			"apiVersion": "apps/v1",
			"kind": "StatefulSet",
			"metadata": {"name": "orders-g1"},
			"spec": {"template": {"spec": pod}},
		},
	],
	"norm": {
		"requests": {"cpu": 2000, "memory": 4294967296, "storage": 53687091200},
		"limits": {"cpu": 2000, "memory": 4294967296},
		"version": {"major": "16", "known": true, "release": "16.14", "endOfLife": "2028-11-09", "daysToEndOfLife": 712},
		"backup": {"scheduleValid": true, "intervalMinutes": 1440, "longestIntervalMinutes": 1440, "retentionValid": true, "retentionDays": 30},
		"environment": {"name": "production", "source": "label"},
		"images": [described("database", "containers"), described("initialise", "initContainers")],
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
pod_path := "/children/1/spec/template/spec"

in_pod(field) := concat("/", [pod_path, field])

in_container(field) := concat("/", [pod_path, "containers/0", field])

in_init(field) := concat("/", [pod_path, "initContainers/0", field])
