CREATE TABLE `files` (
	`project_id` text NOT NULL,
	`id` text NOT NULL,
	`filename` text NOT NULL,
	`purpose` text NOT NULL,
	`size_bytes` integer NOT NULL,
	`num_examples` integer NOT NULL,
	`blob_key` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	PRIMARY KEY(`project_id`, `id`)
);
--> statement-breakpoint
CREATE INDEX `files_by_time` ON `files` (`project_id`,`created_at_ms`,`id`);--> statement-breakpoint
CREATE TABLE `jobs` (
	`project_id` text NOT NULL,
	`id` text NOT NULL,
	`status` text NOT NULL,
	`object` text NOT NULL,
	`revision` integer NOT NULL,
	`created_at_ms` integer NOT NULL,
	PRIMARY KEY(`project_id`, `id`)
);
--> statement-breakpoint
CREATE INDEX `jobs_by_time` ON `jobs` (`project_id`,`created_at_ms`,`id`);--> statement-breakpoint
CREATE TABLE `keys` (
	`hash` text PRIMARY KEY NOT NULL,
	`project_id` text NOT NULL,
	`name` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	`revoked_at_ms` integer,
	FOREIGN KEY (`project_id`) REFERENCES `projects`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE TABLE `projects` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `tasks` (
	`project_id` text NOT NULL,
	`name` text NOT NULL,
	`live_version` integer,
	`retired_through` integer DEFAULT 0 NOT NULL,
	`created_at_ms` integer NOT NULL,
	`updated_at_ms` integer NOT NULL,
	`deleted_at_ms` integer,
	PRIMARY KEY(`project_id`, `name`)
);
--> statement-breakpoint
CREATE TABLE `usage` (
	`request_id` text PRIMARY KEY NOT NULL,
	`project_id` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	`route` text NOT NULL,
	`model` text NOT NULL,
	`selection` text,
	`runner_id` text NOT NULL,
	`prompt_tokens` integer NOT NULL,
	`completion_tokens` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `usage_by_time` ON `usage` (`project_id`,`created_at_ms`);--> statement-breakpoint
CREATE TABLE `versions` (
	`project_id` text NOT NULL,
	`task` text NOT NULL,
	`number` integer NOT NULL,
	`digest` text NOT NULL,
	`model` text NOT NULL,
	`model_digest` text NOT NULL,
	`adapter_digest` text NOT NULL,
	`scope` text NOT NULL,
	`layers` text NOT NULL,
	`instructions` text,
	`position` text NOT NULL,
	`labels` text,
	`bias` text,
	`report_key` text NOT NULL,
	`job_id` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	PRIMARY KEY(`project_id`, `task`, `number`)
);
--> statement-breakpoint
CREATE UNIQUE INDEX `versions_job_id` ON `versions` (`job_id`);