# What probably costs more than it gives. Nothing here is refused: whoever declares it may have a reason.
package database.cost

import rego.v1

import data.database.lib

# Redis holds its data in memory. Its append-only file is rewritten once it has doubled, and both files exist meanwhile:
# three times the memory is ample, four leaves room for a replica's snapshot.
redis_storage_per_memory := 4

violations contains v if {
	data.database.lib.spec.engine == "redis"
	storage := data.database.lib.norm.requests.storage
	is_number(storage)
	storage > memory.bytes * redis_storage_per_memory
	v := {
		"id": "cost.redis-storage",
		"severity": "low",
		"action": "warn",
		"path": "spec.resources.requests.storage",
		"message": sprintf("storage %s is more than %v times the memory %s, but redis can hold no more data than its memory; ask for less storage, or for more memory", [lib.declared("requests", "storage"), redis_storage_per_memory, lib.declared(memory.kind, "memory")]),
	}
}

# The limit is what the data may fill; the request stands in where there is no limit.
memory := {"kind": "limits", "bytes": bytes} if {
	bytes := data.database.lib.norm.limits.memory
	is_number(bytes)
} else := {"kind": "requests", "bytes": bytes} if {
	bytes := data.database.lib.norm.requests.memory
	is_number(bytes)
}

# A node reserves the request only. A limit far above it is either never reached or taken from the neighbours.
limit_per_request := 4

violations contains v if {
	limit := data.database.lib.norm.limits.cpu
	request := data.database.lib.norm.requests.cpu
	is_number(limit)
	is_number(request)
	limit > request * limit_per_request
	v := {
		"id": "cost.cpu-spread",
		"severity": "low",
		"action": "warn",
		"path": "spec.resources.limits.cpu",
		"message": sprintf("the CPU limit %s is more than %v times the request %s, so most of it is not reserved and cannot be counted on; bring the two closer together", [lib.declared("limits", "cpu"), limit_per_request, lib.declared("requests", "cpu")]),
	}
}

# Memory beyond the request is what the kernel takes back first, by killing; a database then starts cold.
violations contains v if {
	limit := data.database.lib.norm.limits.memory
	request := data.database.lib.norm.requests.memory
	is_number(limit)
	is_number(request)
	limit > request * limit_per_request
	v := {
		"id": "cost.memory-spread",
		"severity": "low",
		"action": "warn",
		"path": "spec.resources.limits.memory",
		"message": sprintf("the memory limit %s is more than %v times the request %s, so the database may be killed when its node is full; bring the two closer together", [lib.declared("limits", "memory"), limit_per_request, lib.declared("requests", "memory")]),
	}
}

violations contains v if {
	data.database.lib.environment == "development"
	data.database.lib.spec.highAvailability == true
	v := {
		"id": "cost.high-availability",
		"severity": "low",
		"action": "warn",
		"path": "spec.highAvailability",
		"message": "highAvailability runs a database several times, which development seldom needs; set it to false unless you test failover",
	}
}

# 1 Ti, in bytes.
storage_outside_production := 1099511627776

violations contains v if {
	not data.database.lib.production
	storage := data.database.lib.norm.requests.storage
	is_number(storage)
	storage > storage_outside_production
	v := {
		"id": "cost.storage",
		"severity": "low",
		"action": "warn",
		"path": "spec.resources.requests.storage",
		"message": sprintf("storage %s is more than 1Ti, which environment %s seldom needs, and it can never shrink; ask for less and let it grow", [lib.declared("requests", "storage"), lib.quote(data.database.lib.environment)]),
	}
}

retention_outside_production := 365

violations contains v if {
	not data.database.lib.production
	days := data.database.lib.norm.backup.retentionDays
	is_number(days)
	days > retention_outside_production
	v := {
		"id": "cost.retention",
		"severity": "low",
		"action": "warn",
		"path": "spec.backupPolicy.retention",
		"message": sprintf("backups of environment %s are kept for %v days, more than %v; keep them for less long unless a law demands it", [lib.quote(data.database.lib.environment), days, retention_outside_production]),
	}
}
