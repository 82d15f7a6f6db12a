# What probably costs more than it gives. Nothing here is refused: whoever declares it may have a reason.
package database.cost

import rego.v1

import data.database.lib

# Redis holds its data in memory. Its append-only file is rewritten once it has doubled, and both files exist meanwhile:
# three times the memory is ample, four leaves room for a replica's snapshot.
redis_storage_per_memory := 4

violations contains {
	"id": "cost.redis-storage",
	"severity": "low",
	"action": "warn",
	"path": "spec.resources.requests.storage",
	"message": sprintf("storage %s is more than %v times the memory %s, but redis can hold no more data than its memory; ask for less storage, or for more memory", [lib.declared("requests", "storage"), redis_storage_per_memory, lib.declared(memory.kind, "memory")]),
} if {
	lib.spec.engine == "redis"
	storage := lib.norm.requests.storage
	is_number(storage)
	storage > memory.bytes * redis_storage_per_memory
}

# The limit is what the data may fill; the request stands in where there is no limit.
memory := {"kind": "limits", "bytes": bytes} if {
	bytes := lib.norm.limits.memory
	is_number(bytes)
} else := {"kind": "requests", "bytes": bytes} if {
	bytes := lib.norm.requests.memory
	is_number(bytes)
}

# A node reserves the request only. A limit far above it is either never reached or taken from the neighbours.
limit_per_request := 4

violations contains {
	"id": "cost.cpu-spread",
	"severity": "low",
	"action": "warn",
	"path": "spec.resources.limits.cpu",
	"message": sprintf("the CPU limit %s is more than %v times the request %s, so most of it is not reserved and cannot be counted on; bring the two closer together", [lib.declared("limits", "cpu"), limit_per_request, lib.declared("requests", "cpu")]),
} if {
	limit := lib.norm.limits.cpu
	request := lib.norm.requests.cpu
	is_number(limit)
	is_number(request)
	limit > request * limit_per_request
}

# Memory beyond the request is what the kernel takes back first, by killing; a database then starts cold.
violations contains {
	"id": "cost.memory-spread",
	"severity": "low",
	"action": "warn",
	"path": "spec.resources.limits.memory",
	"message": sprintf("the memory limit %s is more than %v times the request %s, so the database may be killed when its node is full; bring the two closer together", [lib.declared("limits", "memory"), limit_per_request, lib.declared("requests", "memory")]),
} if {
	limit := lib.norm.limits.memory
	request := lib.norm.requests.memory
	is_number(limit)
	is_number(request)
	limit > request * limit_per_request
}

violations contains {
	"id": "cost.high-availability",
	"severity": "low",
	"action": "warn",
	"path": "spec.highAvailability",
	"message": "highAvailability runs a database several times, which development seldom needs; set it to false unless you test failover",
} if {
	lib.environment == "development"
	lib.spec.highAvailability == true
}

# 1 Ti, in bytes.
storage_outside_production := 1099511627776

violations contains {
	"id": "cost.storage",
	"severity": "low",
	"action": "warn",
	"path": "spec.resources.requests.storage",
	"message": sprintf("storage %s is more than 1Ti, which environment %s seldom needs, and it can never shrink; ask for less and let it grow", [lib.declared("requests", "storage"), lib.quote(lib.environment)]),
} if {
	not lib.production
	storage := lib.norm.requests.storage
	is_number(storage)
	storage > storage_outside_production
}

retention_outside_production := 365

violations contains {
	"id": "cost.retention",
	"severity": "low",
	"action": "warn",
	"path": "spec.backupPolicy.retention",
	"message": sprintf("backups of environment %s are kept for %v days, more than %v; keep them for less long unless a law demands it", [lib.quote(lib.environment), days, retention_outside_production]),
} if {
	not lib.production
	days := lib.norm.backup.retentionDays
	is_number(days)
	days > retention_outside_production
}
