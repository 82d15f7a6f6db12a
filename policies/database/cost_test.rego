package database.cost_test

import rego.v1

import data.database.cost
import data.database.fixtures_test as fixtures

found(changes) := ids if {
	ids := {violation.id | some violation in cost.violations} with input as fixtures.changed(changes)
}

redis := fixtures.put("/object/spec/engine", "redis")

development := fixtures.put("/norm/environment/name", "development")

test_good_is_silent if found([]) == set()

test_redis_storage_against_its_memory if {
	found([redis, fixtures.put("/norm/requests/storage", 17179869185)]) == {"cost.redis-storage"}
	found([redis, fixtures.put("/norm/requests/storage", 17179869184)]) == set()
	found([fixtures.put("/norm/requests/storage", 17179869185)]) == set()
}

test_redis_storage_without_a_limit if {
	found([redis, fixtures.drop("/norm/limits")]) == {"cost.redis-storage"}
	found([redis, fixtures.drop("/norm/limits"), fixtures.drop("/norm/requests/memory")]) == set()
}

test_cpu_spread if {
	found([fixtures.put("/norm/limits/cpu", 8001)]) == {"cost.cpu-spread"}
	found([fixtures.put("/norm/limits/cpu", 8000)]) == set()
	found([fixtures.put("/norm/limits/cpu", "9000")]) == set()
	found([fixtures.drop("/norm/requests/cpu")]) == set()
}

test_memory_spread if {
	found([fixtures.put("/norm/limits/memory", 17179869185)]) == {"cost.memory-spread"}
	found([fixtures.put("/norm/limits/memory", 17179869184)]) == set()
	found([fixtures.drop("/norm/requests/memory")]) == set()
}

test_high_availability if {
	found([development]) == {"cost.high-availability"}
	found([development, fixtures.put("/object/spec/highAvailability", false)]) == set()
}

test_storage if {
	found([staging, fixtures.put("/norm/requests/storage", 1099511627777)]) == {"cost.storage"}
	found([staging, fixtures.put("/norm/requests/storage", 1099511627776)]) == set()
	found([fixtures.put("/norm/requests/storage", 1099511627777)]) == set()
}

test_retention if {
	found([staging, fixtures.put("/norm/backup/retentionDays", 366)]) == {"cost.retention"}
	found([staging, fixtures.put("/norm/backup/retentionDays", 365)]) == set()
	found([fixtures.put("/norm/backup/retentionDays", 366)]) == set()
}

staging := fixtures.put("/norm/environment/name", "staging")

same_without(fields, value) if {
	paths := [path | some field in fields; path := concat("/", ["/norm", field])]
	texts := found(array.concat([redis, staging], [change | some path in paths; change := fixtures.put(path, value)]))
	texts == found(array.concat([redis, staging], [change | some path in paths; change := fixtures.drop(path)]))
}

# Texts sort after all numbers, so they must not be compared with one.
test_amounts_that_are_texts if {
	same_without(["limits/cpu", "requests/storage", "backup/retentionDays"], "9")
	same_without(["requests/cpu", "requests/memory"], "9")
	same_without(["limits/memory"], "9")
}

# And null before them.
test_amounts_that_are_null if {
	same_without(["requests/cpu", "limits/memory"], null)
	same_without(["limits/cpu", "requests/memory"], null)
}

# All at once, and none of it is refused.
test_only_warnings if {
	actions := {violation.action | some violation in cost.violations} with input as fixtures.changed([
		redis,
		development,
		fixtures.put("/norm/limits/cpu", 80000),
		fixtures.put("/norm/requests/storage", 1099511627777000),
		fixtures.put("/norm/backup/retentionDays", 9000),
	])
	actions == {"warn"}
}
