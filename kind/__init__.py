"""Kind clusters whose nodes can be brought under enforcement, also where no image can be pulled."""
