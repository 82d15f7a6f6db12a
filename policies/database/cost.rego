# What probably costs more than it gives. Nothing here is refused: whoever declares it may have a reason.
package database.cost

import rego.v1

import data.database.lib

# Redis holds its data in memory. Its append-only file is rewritten once it has doubled, and both files exist meanwhile:
# three times the memory is ample, four leaves room for a replica's snapshot.
violations contains v if {
	input.object.spec.engine == "redis"
	storage := input.norm.requests.storage
	is_number(storage)
	storage > memory.bytes * 4
	v := {
		"id": "cost.redis-storage",
		"severity": "low",
		"action": "warn",
		"path": "spec.resources.requests.storage",
		"message": sprintf("storage %s is more than 4 times the memory %s, but redis can hold no more data than its memory; ask for less storage, or for more memory", [lib.declared("requests", "storage"), lib.declared(memory.kind, "memory")]),
	}
}

# The limit is what the data may fill; the request stands in where there is no limit.
memory := {"kind": "limits", "bytes": bytes} if {
	bytes := input.norm.limits.memory
	is_number(bytes)
} else := {"kind": "requests", "bytes": bytes} if {
	bytes := input.norm.requests.memory
	is_number(bytes)
}

# A node reserves the request only. A limit far above it is either never reached or taken from the neighbours.
violations contains v if {
	limit := input.norm.limits.cpu
	request := input.norm.requests.cpu
	limit > request
	request > true # a number, as is whatever sorts between it and the texts
	limit < ""
	limit > request * 4
	v := {
		"id": "cost.cpu-spread",
		"severity": "low",
		"action": "warn",
		"path": "spec.resources.limits.cpu",
		"message": sprintf("the CPU limit %s is more than 4 times the request %s, so most of it is not reserved and cannot be counted on; bring the two closer together", [lib.declared("limits", "cpu"), lib.declared("requests", "cpu")]),
	}
}

# Memory beyond the request is what the kernel takes back first, by killing; a database then starts cold.
violations contains v if {
	limit := input.norm.limits.memory
	request := input.norm.requests.memory
	limit > request
	request > true # a number, as is whatever sorts between it and the texts
	limit < ""
	limit > request * 4
	v := {
		"id": "cost.memory-spread",
		"severity": "low",
		"action": "warn",
		"path": "spec.resources.limits.memory",
		"message": sprintf("the memory limit %s is more than 4 times the request %s, so the database may be killed when its node is full; bring the two closer together", [lib.declared("limits", "memory"), lib.declared("requests", "memory")]),
	}
}

violations contains v if {
	input.norm.environment.name == "development"
	input.object.spec.highAvailability == true
	v := {
		"id": "cost.high-availability",
		"severity": "low",
		"action": "warn",
		"path": "spec.highAvailability",
		"message": "highAvailability runs a database several times, which development seldom needs; set it to false unless you test failover",
	}
}

# 1 Ti, in bytes.
violations contains v if {
	storage := input.norm.requests.storage
	storage > 1099511627776
	is_number(storage)
	not data.database.lib.production
	v := {
		"id": "cost.storage",
		"severity": "low",
		"action": "warn",
		"path": "spec.resources.requests.storage",
		"message": sprintf("storage %s is more than 1Ti, which environment %s seldom needs, and it can never shrink; ask for less and let it grow", [lib.declared("requests", "storage"), lib.quote(data.database.lib.environment)]),
	}
}

violations contains v if {
	days := input.norm.backup.retentionDays
	days > 365
	is_number(days)
	not data.database.lib.production
	v := {
		"id": "cost.retention",
		"severity": "low",
		"action": "warn",
		"path": "spec.backupPolicy.retention",
		"message": sprintf("backups of environment %s are kept for %v days, more than 365; keep them for less long unless a law demands it", [lib.quote(data.database.lib.environment), days]),
	}
}
