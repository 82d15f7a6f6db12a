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
	found([fixtures.put("/object/spec/backupPolicy", "daily")]) == {"governance.backup"}
}

test_backup_is_not_required if {
	found([fixtures.drop("/object/spec/backupPolicy"), not_required("backup")]) == set()
	found([fixtures.drop("/object/spec/backupPolicy"), fixtures.drop("/settings/require/backup")]) == set()
}

test_backup_schedule if {
	found([fixtures.put("/norm/backup/scheduleValid", false)]) == {"governance.backup-schedule"}
	found([fixtures.drop("/norm/backup/scheduleValid")]) == {"governance.backup-schedule"}
}

# A gap that is not known cannot be compared, and must not pass.
test_backup_schedule_without_its_gaps if {
	found([fixtures.drop("/norm/backup/intervalMinutes")]) == {"governance.backup-schedule"}
	found([fixtures.drop("/norm/backup/longestIntervalMinutes")]) == {"governance.backup-schedule"}
}

test_backup_schedule_with_gaps_that_are_no_numbers if {
	found([fixtures.put("/norm/backup/intervalMinutes", "1")]) == {"governance.backup-schedule"}
	found([fixtures.put("/norm/backup/longestIntervalMinutes", "1")]) == {"governance.backup-schedule"}
}

test_backup_too_often if {
	found([fixtures.put("/norm/backup/intervalMinutes", 14)]) == {"governance.backup-too-often"}
	found([fixtures.put("/norm/backup/intervalMinutes", 15)]) == set()
}

test_backup_too_rare if {
	found([fixtures.put("/norm/backup/longestIntervalMinutes", 1501)]) == {"governance.backup-too-rare"}
	found([fixtures.put("/norm/backup/longestIntervalMinutes", 1500)]) == set()
}

# Every five minutes, but only on one day of the week.
test_backup_too_often_and_too_rare if {
	found([
		fixtures.put("/norm/backup/intervalMinutes", 5),
		fixtures.put("/norm/backup/longestIntervalMinutes", 8645),
	]) == {"governance.backup-too-often", "governance.backup-too-rare"}
}

test_backup_interval_without_bounds if {
	found([
		fixtures.put("/norm/backup/intervalMinutes", 1),
		fixtures.put("/norm/backup/longestIntervalMinutes", 99999),
		fixtures.drop("/settings/min"),
		fixtures.drop("/settings/max"),
	]) == set()
}

test_backup_interval_with_a_bound_that_is_no_number if {
	found([
		fixtures.put("/norm/backup/intervalMinutes", 1),
		fixtures.put("/settings/min/backup_interval_minutes/value", "15"),
	]) == {"governance.setting-unreadable"}
}

test_backup_retention if {
	found([fixtures.put("/norm/backup/retentionValid", false)]) == {"governance.backup-retention"}
	found([fixtures.drop("/norm/backup/retentionDays")]) == {"governance.backup-retention"}
	found([fixtures.drop("/norm/backup/retentionDaysAtMost")]) == {"governance.backup-retention"}
}

test_retention_too_short if {
	found([fixtures.put("/norm/backup/retentionDays", 6)]) == {"governance.retention-too-short"}
	found([fixtures.put("/norm/backup/retentionDays", 7)]) == set()
}

test_retention_too_long if {
	found([fixtures.put("/norm/backup/retentionDaysAtMost", 3661)]) == {"governance.retention-too-long"}
	found([fixtures.put("/norm/backup/retentionDaysAtMost", 3660)]) == set()
}

test_nothing_is_known_of_the_backups if {
	found([fixtures.drop("/norm/backup")]) == {"governance.backup-schedule", "governance.backup-retention"}
	found([fixtures.drop("/norm/backup"), fixtures.put("/object/spec/backupPolicy", {})]) == {"governance.backup-schedule", "governance.backup-retention"}
}

without_backups(backup) := found([
	fixtures.drop("/object/spec/backupPolicy"),
	not_required("backup"),
	fixtures.put("/norm/backup", backup),
])

# Only what is declared is judged.
test_no_backup_policy_no_fault_in_it if {
	readable := {"scheduleValid": true, "retentionValid": true, "intervalMinutes": 1, "longestIntervalMinutes": 9000}
	without_backups({}) == set()
	without_backups(object.union(readable, {"retentionDays": 1})) == set()
}

test_no_backup_policy_is_not_kept_too_long if {
	without_backups({"retentionValid": true, "retentionDays": 9000, "retentionDaysAtMost": 9000}) == set()
}

# Only a number is a bound.
test_bounds_that_are_no_numbers if {
	found([
		fixtures.put("/settings/max/backup_interval_minutes/value", null),
		fixtures.put("/settings/max/retention_days/value", null),
	]) == {"governance.setting-unreadable"}
	found([
		fixtures.put("/settings/min/backup_interval_minutes/value", "0"),
		fixtures.put("/settings/min/retention_days/value", "0"),
	]) == {"governance.setting-unreadable"}
}

# The larger, the worse, in both directions.
test_measures if {
	measures([fixtures.put("/norm/backup/intervalMinutes", 5), fixtures.put("/norm/backup/retentionDaysAtMost", 4000)]) == {10, 4000}
	measures([fixtures.put("/norm/backup/longestIntervalMinutes", 2000), fixtures.put("/norm/backup/retentionDays", 2)]) == {2000, 5}
}

test_backup_encryption if {
	found([required("backup_encryption")]) == {"governance.backup-encryption"}
	found([required("backup_encryption"), fixtures.put("/object/spec/backupPolicy/encryption", "yes")]) == {"governance.backup-encryption"}
}

test_backup_encryption_is_no_matter if {
	found([required("backup_encryption"), fixtures.put("/object/spec/backupPolicy/encryption", true)]) == set()
	found([required("backup_encryption"), not_required("backup"), fixtures.drop("/object/spec/backupPolicy")]) == set()
}

test_high_availability if {
	every value in [false, "true"] {
		found([fixtures.put("/object/spec/highAvailability", value)]) == {"governance.high-availability"}
	}
}

test_high_availability_missing if {
	found([fixtures.drop("/object/spec/highAvailability")]) == {"governance.high-availability"}
	found([fixtures.drop("/object/spec/highAvailability"), not_required("high_availability")]) == set()
}

test_monitoring if {
	found([fixtures.drop("/object/spec/monitoring")]) == {"governance.monitoring"}
	found([fixtures.put("/object/spec/monitoring/enabled", false)]) == {"governance.monitoring"}
}

test_monitoring_is_not_required if found([fixtures.drop("/object/spec/monitoring"), not_required("monitoring")]) == set()

test_messages_of_the_gaps if {
	messages := {violation.message | some violation in data.database.governance.violations} with input as fixtures.changed([
		fixtures.put("/norm/backup/intervalMinutes", 5),
		fixtures.put("/norm/backup/longestIntervalMinutes", 8645),
	])
	messages == {
		"the schedule \"0 2 * * *\" has backups as little as 5 minutes apart, but level global wants at least 15 (setting min.backup_interval_minutes); take them less often",
		"the schedule \"0 2 * * *\" leaves up to 8645 minutes between two backups, but level environment/production wants at most 1500 (setting max.backup_interval_minutes); take them more often",
	}
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
