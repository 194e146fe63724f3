CREATE TABLE `__new_versions` (
	`project_id` text NOT NULL,
	`task` text NOT NULL,
	`number` integer NOT NULL,
	`digest` text NOT NULL,
	`model` text NOT NULL,
	`model_digest` text NOT NULL,
	`adapter_digest` text,
	`scope` text NOT NULL,
	`layers` text NOT NULL,
	`instructions` text,
	`position` text NOT NULL,
	`labels` text,
	`bias` text,
	`temperature` real,
	`min_confidence` real,
	`fallback_label` text,
	`report_key` text NOT NULL,
	`job_id` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	PRIMARY KEY(`project_id`, `task`, `number`)
);
--> statement-breakpoint
INSERT INTO `__new_versions`("project_id", "task", "number", "digest", "model", "model_digest", "adapter_digest", "scope", "layers", "instructions", "position", "labels", "bias", "report_key", "job_id", "created_at_ms") SELECT "project_id", "task", "number", "digest", "model", "model_digest", "adapter_digest", "scope", "layers", "instructions", "position", "labels", "bias", "report_key", "job_id", "created_at_ms" FROM `versions`;--> statement-breakpoint
DROP TABLE `versions`;--> statement-breakpoint
ALTER TABLE `__new_versions` RENAME TO `versions`;--> statement-breakpoint
CREATE UNIQUE INDEX `versions_job_id` ON `versions` (`job_id`);