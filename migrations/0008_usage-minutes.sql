CREATE TABLE `usage_minutes` (
	`batch` text NOT NULL,
	`project_id` text NOT NULL,
	`minute_ms` integer NOT NULL,
	`key_id` text NOT NULL,
	`route` text NOT NULL,
	`model` text NOT NULL,
	`num_requests` integer NOT NULL,
	`prompt_tokens` integer NOT NULL,
	`cached_tokens` integer NOT NULL,
	`completion_tokens` integer NOT NULL,
	PRIMARY KEY(`batch`, `minute_ms`, `key_id`, `route`, `model`)
);
--> statement-breakpoint
CREATE INDEX `usage_minutes_by_time` ON `usage_minutes` (`project_id`,`minute_ms`);