# What an environment demands: backups that are frequent and kept long enough, a standby, monitoring.
package database.governance

import rego.v1

import data.database.lib

has_backup if is_object(input.object.spec.backupPolicy)

violations contains v if {
	policies := [policy | policy := input.object.spec.backupPolicy; policy >= {}]
	policies == []
	data.database.lib.required.backup
	v := {
		"id": "governance.backup",
		"severity": "high",
		"action": "deny",
		"path": "spec.backupPolicy",
		"message": sprintf("there is no backup policy, which %s requires (setting require.backup); set spec.backupPolicy with schedule and retention", [lib.required_by("backup")]),
	}
}

violations contains v if {
	readable := [1 |
		input.norm.backup.scheduleValid == true
		input.norm.backup.intervalMinutes > true
		input.norm.backup.intervalMinutes < ""
		input.norm.backup.longestIntervalMinutes > true
		input.norm.backup.longestIntervalMinutes < ""
	]
	readable == []
	has_backup
	v := {
		"id": "governance.backup-schedule",
		"severity": "high",
		"action": "deny",
		"path": "spec.backupPolicy.schedule",
		"message": sprintf("the schedule %s cannot be read; write five fields of cron such as 0 2 * * *, or a word such as @daily", [backup_text("schedule")]),
	}
}

# Without the numbers of minutes no bound could be compared with them.
schedule_readable if {
	input.norm.backup.scheduleValid == true
	is_number(input.norm.backup.intervalMinutes)
	is_number(input.norm.backup.longestIntervalMinutes)
}

violations contains v if {
	minutes := input.norm.backup.intervalMinutes
	bound := input.settings.min.backup_interval_minutes
	minutes < bound.value
	is_number(bound.value)
	has_backup
	schedule_readable
	v := {
		"id": "governance.backup-too-often",
		"severity": "low",
		"action": "deny",
		"path": "spec.backupPolicy.schedule",
		"message": sprintf("the schedule %s has backups as little as %v minutes apart, but %s wants at least %s (setting min.backup_interval_minutes); take them less often", [backup_text("schedule"), minutes, lib.level(bound), lib.bound(bound)]),
		"measure": bound.value - minutes,
	}
}

violations contains v if {
	minutes := input.norm.backup.longestIntervalMinutes
	bound := input.settings.max.backup_interval_minutes
	minutes > bound.value
	is_number(bound.value)
	has_backup
	schedule_readable
	v := {
		"id": "governance.backup-too-rare",
		"severity": "medium",
		"action": "deny",
		"path": "spec.backupPolicy.schedule",
		"message": sprintf("the schedule %s leaves up to %v minutes between two backups, but %s wants at most %s (setting max.backup_interval_minutes); take them more often", [backup_text("schedule"), minutes, lib.level(bound), lib.bound(bound)]),
		"measure": minutes,
	}
}

violations contains v if {
	readable := [1 |
		input.norm.backup.retentionValid == true
		input.norm.backup.retentionDays > true
		input.norm.backup.retentionDays < ""
		input.norm.backup.retentionDaysAtMost > true
		input.norm.backup.retentionDaysAtMost < ""
	]
	readable == []
	has_backup
	v := {
		"id": "governance.backup-retention",
		"severity": "high",
		"action": "deny",
		"path": "spec.backupPolicy.retention",
		"message": sprintf("the retention %s cannot be read; write a number and d, w, m (months) or y, such as 30d", [backup_text("retention")]),
	}
}

retention_readable if {
	input.norm.backup.retentionValid == true
	is_number(input.norm.backup.retentionDays)
}

violations contains v if {
	days := input.norm.backup.retentionDays
	bound := input.settings.min.retention_days
	days < bound.value
	is_number(bound.value)
	has_backup
	retention_readable
	v := {
		"id": "governance.retention-too-short",
		"severity": "medium",
		"action": "deny",
		"path": "spec.backupPolicy.retention",
		"message": sprintf("the retention %s keeps backups for %v days, but %s wants at least %s (setting min.retention_days); keep them longer", [backup_text("retention"), days, lib.level(bound), lib.bound(bound)]),
		"measure": bound.value - days,
	}
}

violations contains v if {
	days := input.norm.backup.retentionDaysAtMost
	bound := input.settings.max.retention_days
	days > bound.value
	is_number(bound.value)
	has_backup
	retention_readable
	v := {
		"id": "governance.retention-too-long",
		"severity": "low",
		"action": "deny",
		"path": "spec.backupPolicy.retention",
		"message": sprintf("the retention %s keeps backups for up to %v days, but %s allows at most %s (setting max.retention_days); keep them for less long", [backup_text("retention"), days, lib.level(bound), lib.bound(bound)]),
		"measure": days,
	}
}

violations contains v if {
	requirement := input.settings.require.backup_encryption
	not requirement.value == false
	has_backup
	not input.object.spec.backupPolicy.encryption == true
	v := {
		"id": "governance.backup-encryption",
		"severity": "high",
		"action": "deny",
		"path": "spec.backupPolicy.encryption",
		"message": sprintf("backups are not declared to be encrypted, which %s requires (setting require.backup_encryption); set spec.backupPolicy.encryption to true", [lib.required_by("backup_encryption")]),
	}
}

violations contains v if {
	not input.object.spec.highAvailability == true
	data.database.lib.required.high_availability
	v := {
		"id": "governance.high-availability",
		"severity": "high",
		"action": "deny",
		"path": "spec.highAvailability",
		"message": sprintf("the database would not survive the loss of a node, which %s requires (setting require.high_availability); set spec.highAvailability to true, or ask for a PolicyException", [lib.required_by("high_availability")]),
	}
}

violations contains v if {
	not input.object.spec.monitoring.enabled == true
	data.database.lib.required.monitoring
	v := {
		"id": "governance.monitoring",
		"severity": "medium",
		"action": "deny",
		"path": "spec.monitoring.enabled",
		"message": sprintf("monitoring is off, but %s requires it (setting require.monitoring); set spec.monitoring.enabled to true", [lib.required_by("monitoring")]),
	}
}

backup_text(field) := text if {
	text := lib.quote(input.object.spec.backupPolicy[field])
} else := "that is missing"
