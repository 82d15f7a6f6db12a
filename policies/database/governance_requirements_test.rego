package database.governance_requirements_test

import rego.v1

import data.database.fixtures_test as fixtures

found(changes) := ids if {
	ids := {violation.id | some violation in data.database.governance.violations} with input as fixtures.changed(changes)
}

measures(changes) := measured if {
	measured := {violation.measure | some violation in data.database.governance.violations} with input as fixtures.changed(changes)
}

not_required(name) := fixtures.put(concat("/", ["/settings/require", name]), {"value": false, "level": "global"})

required(name) := fixtures.put(concat("/", ["/settings/require", name]), {"value": true, "level": "global"})

test_backup if {
	found([fixtures.drop("/object/spec/backupPolicy")]) == {"governance.backup"}
	found([fixtures.put("/object/spec/backupPolicy", null)]) == {"governance.backup"}
	found([fixtures.put("/object/spec/backupPolicy", "daily")]) == {"governance.backup"}
	found([fixtures.drop("/object/spec/backupPolicy"), not_required("backup")]) == set()
	found([fixtures.drop("/object/spec/backupPolicy"), fixtures.drop("/settings/require/backup")]) == set()
}

test_backup_schedule if {
	found([fixtures.put("/norm/backup/scheduleValid", false)]) == {"governance.backup-schedule"}
	found([fixtures.drop("/norm/backup/scheduleValid")]) == {"governance.backup-schedule"}
	found([fixtures.put("/norm/backup/scheduleValid", true)]) == set()
}

test_backup_interval if {
	found([fixtures.put("/norm/backup/intervalMinutes", 14)]) == {"governance.backup-too-often"}
	found([fixtures.put("/norm/backup/intervalMinutes", 15)]) == set()
	found([fixtures.put("/norm/backup/intervalMinutes", 1500)]) == set()
	found([fixtures.put("/norm/backup/intervalMinutes", 1501)]) == {"governance.backup-too-rare"}
	found([fixtures.put("/norm/backup/intervalMinutes", 1), fixtures.drop("/settings/min")]) == set()
	found([fixtures.put("/norm/backup/intervalMinutes", "1")]) == {"governance.backup-schedule"}
	found([fixtures.put("/norm/backup/intervalMinutes", 1), fixtures.put("/settings/min/backup_interval_minutes/value", "15")]) == {"governance.setting-unreadable"}
}

test_backup_retention if {
	found([fixtures.put("/norm/backup/retentionValid", false)]) == {"governance.backup-retention"}
	found([fixtures.drop("/norm/backup/retentionDays")]) == {"governance.backup-retention"}
	found([fixtures.put("/norm/backup/retentionDays", 6)]) == {"governance.retention-too-short"}
	found([fixtures.put("/norm/backup/retentionDays", 7)]) == set()
	found([fixtures.put("/norm/backup/retentionDays", 3660)]) == set()
	found([fixtures.put("/norm/backup/retentionDays", 3661)]) == {"governance.retention-too-long"}
}

test_nothing_is_known_of_the_backups if {
	found([fixtures.drop("/norm/backup")]) == {"governance.backup-schedule", "governance.backup-retention"}
	found([fixtures.drop("/norm/backup"), fixtures.put("/object/spec/backupPolicy", {})]) == {"governance.backup-schedule", "governance.backup-retention"}
}

# Only what is declared is judged, and only against bounds that are numbers.
test_no_backup_policy_no_fault_in_it if {
	none := [fixtures.drop("/object/spec/backupPolicy"), not_required("backup")]
	found(array.concat(none, [fixtures.drop("/norm/backup")])) == set()
	every field, value in {"intervalMinutes": [1, 9000], "retentionDays": [1, 9000]} {
		every number in value {
			found(array.concat(none, [fixtures.put(concat("/", ["/norm/backup", field]), number)])) == set()
		}
	}
}

test_bounds_that_are_no_numbers if {
	every path in ["/settings/max/backup_interval_minutes/value", "/settings/max/retention_days/value"] {
		found([fixtures.put(path, null)]) == {"governance.setting-unreadable"}
	}
	every path in ["/settings/min/backup_interval_minutes/value", "/settings/min/retention_days/value"] {
		found([fixtures.put(path, "0")]) == {"governance.setting-unreadable"}
	}
}

# The larger, the worse, in both directions.
test_measures if {
	measures([fixtures.put("/norm/backup/intervalMinutes", 5)]) == {10}
	measures([fixtures.put("/norm/backup/intervalMinutes", 2000)]) == {2000}
	measures([fixtures.put("/norm/backup/retentionDays", 2)]) == {5}
	measures([fixtures.put("/norm/backup/retentionDays", 4000)]) == {4000}
}

test_backup_encryption if {
	found([required("backup_encryption")]) == {"governance.backup-encryption"}
	found([required("backup_encryption"), fixtures.put("/object/spec/backupPolicy/encryption", "yes")]) == {"governance.backup-encryption"}
	found([required("backup_encryption"), fixtures.put("/object/spec/backupPolicy/encryption", true)]) == set()
	found([required("backup_encryption"), not_required("backup"), fixtures.drop("/object/spec/backupPolicy")]) == set()
}

test_high_availability if {
	every value in [false, "true", null] {
		found([fixtures.put("/object/spec/highAvailability", value)]) == {"governance.high-availability"}
	}
	found([fixtures.drop("/object/spec/highAvailability")]) == {"governance.high-availability"}
	found([fixtures.drop("/object/spec/highAvailability"), not_required("high_availability")]) == set()
}

test_monitoring if {
	found([fixtures.drop("/object/spec/monitoring")]) == {"governance.monitoring"}
	found([fixtures.put("/object/spec/monitoring/enabled", false)]) == {"governance.monitoring"}
	found([fixtures.drop("/object/spec/monitoring"), not_required("monitoring")]) == set()
}

test_messages_name_the_level if {
	messages := {violation.message | some violation in data.database.governance.violations} with input as fixtures.changed([
		fixtures.put("/norm/backup/retentionDays", 3),
		fixtures.put("/object/spec/backupPolicy/retention", "3d"),
		fixtures.drop("/object/spec/backupPolicy/schedule"),
		fixtures.put("/norm/backup/scheduleValid", false),
	])
	messages == {
		"the retention \"3d\" keeps backups for 3 days, but level environment/production wants at least 7 (setting min.retention_days); keep them longer",
		"the schedule that is missing cannot be read; write five fields of cron such as 0 2 * * *, or a word such as @daily",
	}
}
